"""`stoker logs -f`: what the trainer prints, as it prints it, from one attempt to the next, until the run has ended."""

import os
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Protocol

from stoker.supervisor.paths import RunPaths
from stoker.supervisor.review.logs import LogLine, Tail, Wanted, tail_of

PAUSE = 0.2  # seconds between two looks at the file


class Source(Protocol):
    """What following needs to know of a run."""

    def attempts(self) -> list[int]:
        """The attempts that there are, in order."""
        ...

    def log(self, attempt: int) -> Path:
        """The log of an attempt."""
        ...

    def ended(self) -> bool:
        """Whether no attempt will follow the newest one."""
        ...

    def over(self, attempt: int) -> bool:
        """Whether the process of this attempt has ended."""
        ...


def attempts_on_disk(run: RunPaths) -> list[int]:
    """Return the attempts that have a folder, in order."""
    try:
        with os.scandir(run.attempts) as entries:
            return sorted(int(entry.name) for entry in entries if entry.name.isdecimal())
    except FileNotFoundError:
        return []


def follow(
    source: Source, wanted: Wanted, *, pause: Callable[[float], None], only: int | None = None
) -> Iterator[LogLine]:
    """Yield the end of the newest attempt's log (or of `only`), then everything that is added, across attempts.

    Ends when the run has ended (with `only`: when that attempt has) and everything was read. `pause` sleeps.
    """
    attempt = only if only is not None else _first(source, pause)
    if attempt is None:
        return
    tail = tail_of(source.log(attempt), attempt, wanted)
    yield from deque(filter(wanted.matches, tail.read()), maxlen=wanted.last)
    while True:
        # Asked before reading, so that what was written before the end is read after it.
        following = None if only is not None else next((n for n in source.attempts() if n > attempt), None)
        last = following is not None or (source.ended() if only is None else source.over(attempt))
        yield from filter(wanted.matches, tail.read())
        if not last:
            pause(PAUSE)
            continue
        yield from filter(wanted.matches, tail.close())
        if following is None:
            return
        attempt, tail = following, Tail(source.log(following), following)


def _first(source: Source, pause: Callable[[float], None]) -> int | None:
    """The newest attempt; waits for one, None when there never will be."""
    while True:
        ended = source.ended()
        if present := source.attempts():
            return present[-1]
        if ended:
            return None
        pause(PAUSE)
