"""mlx-lm up to 0.31 and its predecessors in mlx-examples: `Iter 10: Train loss 2.345, Learning Rate ...`."""

import re

from stoker.recovery.dialects.events import Event
from stoker.recovery.dialects.lines import Line
from stoker.recovery.evidence import Report

_TRAIN = re.compile(
    r"(?:^|[\s\]])Iter ([\d,]+): Train loss ([^\s,]+)(?:, Learning Rate ([^\s,]+))?(?:, It/sec [^\s,]+)?"
    r"(?:, Tokens/sec ([^\s,]+))?(?:, Trained Tokens ([^\s,]+))?(?:, Peak mem ([^\s,]+))?"
)
_VAL = re.compile(r"(?:^|[\s\]])Iter ([\d,]+): Val loss ([^\s,]+)")
_STARTED = re.compile(r"^Starting training\.*,? ?(?:iters: ([\d,]+))?")
_SAVED = re.compile(r"Iter (\d+): Saved (?:adapter )?weights to (.+?)\.?$")
_FINAL = re.compile(r"^Saved final (?:adapter )?weights to (.+?)\.?$")


def number(text: str) -> float | None:
    """Return the number, nan and inf included; None for anything else."""
    try:
        return float(text.replace(",", ""))
    except ValueError:
        return None


def parse(line: Line) -> Report | Event | None:
    """Return what this line says in the old dialect."""
    text = line.text
    if "Iter " in text:
        return _iteration(line)
    if text.startswith("Saved final") and (final := _FINAL.match(text)):
        return Event("final_saved", line.number, final[1])
    if text.startswith("Starting training") and (started := _STARTED.match(text)):
        return Event("started", line.number, value=number(started[1]) if started[1] else None)
    return None


def _iteration(line: Line) -> Report | Event | None:
    if found := _TRAIN.search(line.text):
        loss = number(found[2])
        if loss is None:
            return None
        rate, speed, tokens, memory = (number(text) if text else None for text in found.group(3, 4, 5, 6))
        return Report(int(found[1].replace(",", "")), loss, None, rate, speed, memory, line.number, tokens)
    if found := _VAL.search(line.text):
        loss = number(found[2])
        return None if loss is None else Report(int(found[1].replace(",", "")), val_loss=loss, line=line.number)
    if found := _SAVED.search(line.text):
        return Event("saved", line.number, found[2], float(found[1]))
    return None
