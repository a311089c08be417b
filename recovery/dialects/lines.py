"""Raw log text to lines as a person would read them.

A terminal program writes more than lines: colour codes, carriage returns that overwrite a progress bar, and whatever a
dying process prints right behind a bar without a newline. Everything on one line of the file keeps that line's number.
"""

import re
from collections.abc import Iterator
from typing import NamedTuple

from stoker.recovery.evidence import Skipped

# CSI sequences (colour, cursor), OSC sequences (titles, links), and two-character escapes.
_ANSI = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)|[@-Z\\^_])")
# The end of a tqdm bar, of a rich bar, or of an mlx-lm report: what follows on the same line was printed by somebody else.
_BAR_END = re.compile(r"(?:it/s|s/it)[^\]]*\]|Peak mem \S+ GB|[█░▏▎▍▌▋▊▉] +\d+% · +[\d,]+/[\d,]+ ?")
_MAX_LENGTH = 4000  # characters of one line that are looked at; a line that long is data


class Line(NamedTuple):
    """A visible piece of text and the 1-based number of the line of the file that it stands on."""

    number: int
    text: str


def read_lines(text: str, skipped: Skipped | None = None) -> Iterator[Line]:
    """Yield the visible pieces of `text`, blank ones left out."""
    number = 0
    start = 0
    while start < len(text):
        end = text.find("\n", start)
        end = len(text) if end < 0 else end
        raw = text[start:end]
        start = end + 1
        number += 1
        if skipped is not None and number == skipped.after + 1:
            number += skipped.lines
        yield from _pieces(number, raw)


def _pieces(number: int, raw: str) -> Iterator[Line]:
    if "\x1b" in raw:
        raw = _ANSI.sub("", raw)
    for part in raw.split("\r") if "\r" in raw else (raw,):
        glued = "it/s" in part or "s/it" in part or "% ·" in part or (" GB" in part and not part.endswith(" GB"))
        for piece in _unglue(part) if glued else (part,):
            visible = piece.rstrip()
            if visible:
                yield Line(number, visible[:_MAX_LENGTH])


def _unglue(part: str) -> list[str]:
    pieces = []
    start = 0
    for bar in _BAR_END.finditer(part):
        pieces.append(part[start : bar.end()])
        start = bar.end()
    pieces.append(part[start:])
    return pieces
