"""The lines around an evidence line, read from the log of an attempt however large it is."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from stoker.supervisor.review.format import clean, shorten

_BLOCK = 1 << 20  # bytes read at a time while counting lines
_LONGEST = 4096  # bytes of a line that are looked at; the rest of a longer one is passed over
_SHOWN = 300  # columns of a line that are kept


@dataclass(frozen=True, slots=True)
class Line:
    """One line of a file, safe to print; numbers count from 1."""

    number: int
    text: str


def excerpt(path: Path, line: int, *, around: int = 3) -> tuple[Line, ...]:
    """Return the lines `line - around` to `line + around` of a file, fewer at its ends; none when it cannot be read."""
    first = max(1, line - around)
    try:
        with path.open("rb") as file:
            if not _skip(file, first - 1):
                return ()
            numbered = zip(range(first, line + around + 1), _lines(file), strict=False)
            return tuple(Line(number, shorten(clean(raw.decode(errors="replace")), _SHOWN)) for number, raw in numbered)
    except OSError:
        return ()


def _skip(file: BinaryIO, lines: int) -> bool:
    """Stand at the beginning of the line after `lines` lines; False when the file has no more."""
    left, position = lines, 0
    while left:
        block = file.read(_BLOCK)
        if not block:
            return False
        found = block.count(b"\n")
        if found < left:
            left -= found
            position += len(block)
            continue
        offset = 0
        for _ in range(left):
            offset = block.index(b"\n", offset) + 1
        position += offset
        left = 0
    file.seek(position)
    return True


def _lines(file: BinaryIO) -> Iterator[bytes]:
    """The lines from here on, each cut to what is looked at."""
    while line := file.readline(_LONGEST):
        rest = line
        while not rest.endswith(b"\n") and rest:
            rest = file.readline(_LONGEST)
        yield line
