"""The log of an attempt as lines: its end, what is added to it, the lines that match, made safe to print."""

import os
import re
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

from stoker.supervisor.review.format import clean

_BLOCK = 1 << 16  # bytes read at a time
_LONGEST = 1 << 16  # bytes of an unfinished line that are kept: its end, where progress bars leave what counts


@dataclass(frozen=True, slots=True)
class LogLine:
    """One line of the log: the attempt, the line's number in its file (from 1), the bytes without the newline."""

    attempt: int
    number: int
    raw: bytes

    def text(self, *, colour: bool = False) -> str:
        """Return the line without anything that a terminal would obey, progress that rewrites its line collapsed."""
        return clean(self.raw.decode(errors="replace"), colour=colour)


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which lines are asked for: those that match (all without a pattern), of these the `last` ones (all when None)."""

    pattern: re.Pattern[str] | None = None
    last: int | None = 100

    def matches(self, line: LogLine) -> bool:
        """Whether the pattern is found in the cleaned line."""
        return self.pattern is None or self.pattern.search(line.text()) is not None


@dataclass(slots=True)
class Tail:
    """Reads one file from `offset` on, again and again; keeps an unfinished line until its end is there.

    `number` is that of the next line. A file that does not exist yet has nothing to read.
    """

    path: Path
    attempt: int
    offset: int = 0
    number: int = 1
    rest: bytes = b""

    def read(self) -> Iterator[LogLine]:
        """Yield the lines that were completed since the last look; a file that became shorter is read anew."""
        try:
            with self.path.open("rb") as file:
                if os.fstat(file.fileno()).st_size < self.offset:
                    self.offset, self.number, self.rest = 0, 1, b""
                file.seek(self.offset)
                while block := file.read(_BLOCK):
                    self.offset += len(block)
                    *lines, rest = (self.rest + block).split(b"\n")
                    self.rest = rest[-_LONGEST:]
                    yield from map(self._line, lines)
        except FileNotFoundError:
            return

    def close(self) -> Iterator[LogLine]:
        """Yield the unfinished line, when no more will come."""
        if self.rest:
            yield self._line(self.rest)
            self.rest = b""

    def _line(self, raw: bytes) -> LogLine:
        self.number += 1
        return LogLine(self.attempt, self.number - 1, raw)


def tail_of(path: Path, attempt: int, wanted: Wanted) -> Tail:
    """Return a tail that stands where the lines asked for begin.

    Without a pattern the file is read backwards from its end, and the lines before are counted without being kept.
    """
    if wanted.pattern is not None or wanted.last is None:
        return Tail(path, attempt)
    try:
        with path.open("rb") as file:
            start = _start_of_last(file.fileno(), wanted.last)
            return Tail(path, attempt, offset=start, number=_newlines(file.fileno(), start) + 1)
    except FileNotFoundError:
        return Tail(path, attempt)


def end_of_log(path: Path, attempt: int, wanted: Wanted) -> list[LogLine]:
    """Return the lines asked for, oldest first; none when there is no log yet."""
    tail = tail_of(path, attempt, wanted)
    lines = chain(tail.read(), tail.close())
    return list(deque(filter(wanted.matches, lines), maxlen=wanted.last))


def _start_of_last(fd: int, lines: int) -> int:
    """Where the last `lines` lines begin, reading backwards."""
    size = position = os.fstat(fd).st_size
    # The newline at the very end closes the last line; it does not begin another.
    left = lines + 1 if size and os.pread(fd, 1, size - 1) == b"\n" else lines
    while position:
        begin = max(0, position - _BLOCK)
        block = os.pread(fd, position - begin, begin)
        found = block.count(b"\n")
        if found >= left:
            return begin + _after(block, left) if left else size
        left -= found
        position = begin
    return 0


def _after(block: bytes, lines: int) -> int:
    """The offset behind the `lines`-th newline from the end of the block."""
    offset = len(block)
    for _ in range(lines):
        offset = block.rindex(b"\n", 0, offset)
    return offset + 1


def _newlines(fd: int, end: int) -> int:
    """How many newlines stand before `end`."""
    total = position = 0
    while position < end:
        block = os.pread(fd, min(1 << 20, end - position), position)
        if not block:
            break
        total += block.count(b"\n")
        position += len(block)
    return total
