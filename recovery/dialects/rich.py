"""mlx-lm from 0.32: a table drawn with rich. Only iteration, loss, tokens/s and tokens survive in it."""

import re

from stoker.recovery.dialects.classic import number
from stoker.recovery.dialects.events import Event
from stoker.recovery.dialects.lines import Line
from stoker.recovery.evidence import Report

_LOSS = r"(-?[\d.,]+|nan|-?inf)"
# The arrow is one character, whatever the terminal's encoding made of it.
_TRAIN = re.compile(rf"^\s+([\d,]+)\s+{_LOSS}\s*[^\s\d.,]?\s+([\d,]+|nan|inf)\s+([\d.,]+)([kM])$")
_VAL = re.compile(rf"^\s+([\d,]+)\s+val\s+{_LOSS}\s+[\d.,]+s$")
_SAVE = re.compile(r"^\s+save\s+((\d*)\S*\.(?:safetensors|npz))$")
_BAR = re.compile(r"^\s*train\s+[^\s\d%]*\s*(\d+)%\s+\S\s+([\d,]+)/([\d,]+)")
_HEADER = re.compile(r"^\s+iter\s+train_loss\s+tok/s\s+tokens$")
_ITERS = re.compile(r"batch · iters\s+[\d,]+ · ([\d,]+)")


def parse(line: Line) -> Report | Event | None:
    """Return what this line says in the new dialect."""
    text = line.text
    if text.startswith(" "):
        return _row(line)
    if text.startswith("train ") and (bar := _BAR.match(text)):
        return Event("progress", line.number, value=number(bar[2]), of=_integer(bar[3]))
    if "batch · iters" in text and (iters := _ITERS.search(text)):
        return Event("train", line.number, value=number(iters[1]))
    return None


def _row(line: Line) -> Report | Event | None:
    if row := _TRAIN.match(line.text):
        tokens = number(row[4])
        scale = 1e3 if row[5] == "k" else 1e6
        return Report(
            _integer(row[1]),
            number(row[2]),
            tokens_per_second=number(row[3]),
            line=line.number,
            trained_tokens=None if tokens is None else tokens * scale,
        )
    if row := _VAL.match(line.text):
        return Report(_integer(row[1]), val_loss=number(row[2]), line=line.number)
    if row := _SAVE.match(line.text):
        return Event("saved", line.number, row[1], number(row[2]))
    if _HEADER.match(line.text):
        return Event("started", line.number)
    return None


def _integer(text: str) -> int:
    return int(text.replace(",", ""))
