"""Which checkpoint to go on from: the newest good one of the current lineage, before the trouble."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from stoker.recovery.checkpoint.manifest import MANIFEST, parse_name
from stoker.recovery.checkpoint.verify import Verdict


@dataclass(frozen=True, slots=True)
class Candidate:
    """A committed checkpoint, not yet verified: `iteration` iterations were complete when `attempt` wrote it."""

    name: str
    path: Path
    iteration: int
    attempt: int


@dataclass(frozen=True, slots=True)
class Choice:
    """The checkpoint to resume from, and those that were looked at and are bad (to be quarantined by the caller).

    `chosen` None = no good one is left; iteration 0 is always possible.
    """

    chosen: Candidate | None
    rejected: tuple[tuple[Candidate, tuple[str, ...]], ...]


def candidates(checkpoints: Path) -> tuple[Candidate, ...]:
    """The committed checkpoints in a folder, newest first. A folder that does not exist holds none."""
    if not checkpoints.is_dir():
        return ()
    found = []
    for path in checkpoints.iterdir():
        named = parse_name(path.name)
        if named and (path / MANIFEST).is_file():
            found.append(Candidate(path.name, path, *named))
    return tuple(_newest_first(found))


def eligible(candidate: Candidate, starts: Mapping[int, int]) -> bool:
    """Is the checkpoint part of the current lineage?

    `starts` maps each attempt to the iteration it started from. Once a later attempt has started from an earlier
    iteration, what lies above that iteration belongs to a past that was abandoned.
    """
    return all(candidate.iteration <= start for attempt, start in starts.items() if attempt > candidate.attempt)


def choose(
    found: Iterable[Candidate],
    starts: Mapping[int, int],
    verify: Callable[[Path], Verdict],
    before: int | None = None,
) -> Choice:
    """The newest eligible candidate that verifies and has fewer than `before` iterations.

    `before` is the onset of the fault: a checkpoint at iteration i holds what iterations 1..i made of the weights, so
    one at the onset itself is already spoiled. Nothing older than the chosen one is read.
    """
    rejected: list[tuple[Candidate, tuple[str, ...]]] = []
    for candidate in _newest_first(found):
        if not eligible(candidate, starts) or (before is not None and candidate.iteration >= before):
            continue
        verdict = verify(candidate.path)
        if verdict.ok:
            return Choice(candidate, tuple(rejected))
        rejected.append((candidate, verdict.problems))
    return Choice(None, tuple(rejected))


def _newest_first(found: Iterable[Candidate]) -> list[Candidate]:
    return sorted(found, key=lambda candidate: (candidate.iteration, candidate.attempt), reverse=True)
