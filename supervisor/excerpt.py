"""The first and the last part of a log, with line numbers that stay true: huge logs are diagnosed without reading all."""

from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from stoker.recovery.evidence import Skipped

HEAD = 1 << 20  # bytes of the beginning: versions, sizes, the first errors
TAIL = 8 << 20  # bytes of the end: what it died of
_CHUNK = 4 << 20


@dataclass(frozen=True, slots=True)
class Excerpt:
    """Text of a log and which lines of it were left out."""

    text: str
    skipped: Skipped | None = None


def read_excerpt(path: Path) -> Excerpt:
    """Read a log; of a huge one the beginning and the end, counting the newlines in between.

    Raises:
        OSError: the file cannot be read.
    """
    with path.open("rb") as file:
        return take_excerpt(file)


def take_excerpt(file: BinaryIO) -> Excerpt:
    """Read a seekable binary file as `read_excerpt` does."""
    size = file.seek(0, 2)
    file.seek(0)
    if size <= HEAD + TAIL:
        return Excerpt(_text(file.read()))
    head = file.read(HEAD)
    whole = head.rfind(b"\n") + 1
    if whole:
        head = head[:whole]
    after = head.count(b"\n") + (0 if whole else 1)
    middle, begin = _count_until(file, len(head), size - TAIL)
    file.seek(begin)
    text = _text(head) + ("" if whole else "\n") + _text(file.read())
    return Excerpt(text, Skipped(after, middle - (0 if whole else 1)))


def _count_until(file: BinaryIO, start: int, target: int) -> tuple[int, int]:
    """Count newlines from `start` to the first line that begins after `target`; return the count and where it begins."""
    file.seek(start)
    position = start
    lines = 0
    while position < target:
        chunk = file.read(min(_CHUNK, target - position))
        lines += chunk.count(b"\n")
        position += len(chunk)
    while chunk := file.read(_CHUNK):
        end = chunk.find(b"\n")
        if end >= 0:
            return lines + 1, position + end + 1
        position += len(chunk)
    return lines, target  # the end is one line longer than the part that is read


def _text(data: bytes) -> str:
    return data.decode("utf-8", "replace")
