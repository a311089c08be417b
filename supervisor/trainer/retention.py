"""Which checkpoints stay. Pure; standard library only."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from stoker.recovery.checkpoint.manifest import MANIFEST, parse_name


@dataclass(frozen=True, order=True, slots=True)
class Kept:
    """A committed checkpoint of the lineage; they sort from old to new."""

    iteration: int
    attempt: int
    path: Path

    @property
    def bytes(self) -> int:
        """Room that it takes."""
        return sum(file.stat().st_size for file in self.path.iterdir())


def lineage(checkpoints: Path, attempt: int, from_iteration: int) -> list[Kept]:
    """The committed checkpoints that this attempt stands on, newest first: its own, and what earlier ones wrote up to
    where it began.
    """
    found = []
    for path in checkpoints.iterdir():
        parsed = parse_name(path.name)
        if parsed is None or not (path / MANIFEST).exists():
            continue
        iteration, author = parsed
        if author == attempt or (author < attempt and iteration <= from_iteration):
            found.append(Kept(iteration, author, path))
    return sorted(found, reverse=True)


def expendable(newest_first: Iterable[Kept], keep: int, onset: int | None) -> list[Kept]:
    """What may go, oldest first: all but the `keep` newest and, when something may have gone wrong at iteration
    `onset`, the newest from before it.

    A checkpoint at iteration i holds what iterations 1..i made of the weights, so one at the onset itself is spoiled.
    """
    rows = list(newest_first)
    stay = set(rows[:keep])
    if onset is not None:
        before = next((row for row in rows if row.iteration < onset), None)
        stay |= {before} if before else set()
    return [row for row in reversed(rows) if row not in stay]
