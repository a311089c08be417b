"""The ledger: what was tried since the last progress. Computed from the history, never stored, so it cannot drift.

Progress is a newer good checkpoint than any before. A checkpoint at or above the onset of a fault is not good, so an
attempt counts only up to the iteration before its onset. And an attempt that ended at the very iteration, and for the very
cause, for which an earlier one did has not got past it, however close to it its checkpoints came.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from stoker.recovery.policy import Policies
from stoker.recovery.situation import PastAttempt


@dataclass(frozen=True, slots=True)
class Tally:
    """How much of the budgets is used when the last attempt of the history is decided about.

    Attributes:
        progressed: the last attempt made progress, so everything else starts from zero.
        best: iteration of the newest good checkpoint of all attempts; 0 = none yet.
        rungs: `row/rung` -> uses since progress.
        rungs_in_run: `row/rung` -> uses in the whole history.
        plain: counted launches since progress that changed nothing.
        launches: counted launches since progress.
        idle: plain launches among the attempts in a row, up to the last one, that completed no iteration.
        since: the earlier attempts from the last one with progress on.
    """

    progressed: bool
    best: int
    rungs: Mapping[str, int]
    rungs_in_run: Mapping[str, int]
    plain: int
    launches: int
    idle: int
    since: tuple[PastAttempt, ...]


def tally(history: Sequence[PastAttempt], policies: Policies) -> Tally:
    """Count the history, oldest first; its last attempt is the one to be decided about."""
    *earlier, last = history
    best, mark = 0, 0
    progressed = False
    for index, attempt in enumerate(history):
        reached = good_until(attempt)
        again = any(_same_end(attempt, before) for before in history[mark:index])
        progressed = reached > best and not again
        best = max(best, reached)
        if progressed:
            mark = index
    since = tuple(earlier[mark:])
    counted = [attempt.plan for attempt in since if attempt.counted and attempt.plan is not None]
    return Tally(
        progressed=progressed,
        best=best,
        rungs=Counter(attempt.plan for attempt in since if attempt.plan is not None),
        rungs_in_run=Counter(attempt.plan for attempt in earlier if attempt.plan is not None),
        plain=sum(_is_plain(name, policies) for name in counted),
        launches=len(counted),
        idle=_idle(earlier, last, policies),
        since=since,
    )


def good_until(attempt: PastAttempt) -> int:
    """The iteration up to which an attempt left good checkpoints; 0 = it left none."""
    if attempt.best_checkpoint is None:
        return 0
    if attempt.onset is None:
        return attempt.best_checkpoint
    return max(0, min(attempt.best_checkpoint, attempt.onset - 1))


def _same_end(one: PastAttempt, other: PastAttempt) -> bool:
    ends = [attempt.last_iteration if attempt.onset is None else attempt.onset for attempt in (one, other)]
    return one.cause == other.cause and ends[0] == ends[1]


def completed_none(attempt: PastAttempt) -> bool:
    """Did the attempt end before it completed an iteration?"""
    return attempt.last_iteration <= attempt.from_iteration


def _is_plain(name: str, policies: Policies) -> bool:
    rung = policies.rung(name)
    return rung is None or rung.plain  # a rung that the policies no longer know counts as the stricter kind


def _idle(earlier: Sequence[PastAttempt], last: PastAttempt, policies: Policies) -> int:
    if not completed_none(last):
        return 0
    count = 0
    for attempt in reversed(earlier):
        if not completed_none(attempt):
            break
        if attempt.counted and attempt.plan is not None:
            count += _is_plain(attempt.plan, policies)
    return count
