"""Attempts and decisions side by side: what happened in an attempt, what was decided, and what came of it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from stoker.supervisor.review import words
from stoker.supervisor.review.format import clean, count, finite

Record = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Step:
    """One attempt, with everything that belongs to it.

    Attributes:
        attempt: from the reader's `show()`.
        decision: from the reader's `decisions()`; empty where nothing was decided yet.
        following: the attempt that came next; empty for the newest.
        reached: the iteration it came to; of a living attempt the newest one.
    """

    attempt: Record
    decision: Record
    following: Record
    reached: object

    @property
    def cause(self) -> str:
        """The cause of its end; empty while it runs."""
        return clean(self.attempt.get("cause") or self.decision.get("cause") or "")

    @property
    def findings(self) -> list[Record]:
        """What was found: what names the cause first, of that what has a line to look at."""
        found = self.decision.get("findings") or self.attempt.get("findings") or ()
        return sorted(found, key=lambda finding: (finding.get("role", "root") != "root", not finding.get("line")))

    @property
    def simulated(self) -> bool:
        """Whether the fault was made on purpose and was not real."""
        return any(item.get("simulated") for item in (self.attempt, self.decision, *self.findings))

    @property
    def on_request(self) -> bool:
        """Whether a person asked for the end of this attempt: then nothing had to be planned."""
        return self.cause == "interrupted" and not self.attempt.get("plan")

    @property
    def rejected(self) -> list[Record]:
        """The checkpoints that were found bad and went to quarantine."""
        return list((self.decision.get("checkpoint") or {}).get("rejected") or ())

    @property
    def target(self) -> str:
        """Where the run went on from: a checkpoint, `iteration 0`; empty where that is not known (yet)."""
        if self.following:
            return (
                clean(self.following.get("checkpoint") or "")
                or f"iteration {count(self.following.get('from_iteration'))}"
            )
        chosen = (self.decision.get("checkpoint") or {}).get("chosen")
        return clean(chosen) if chosen and chosen != self.attempt.get("checkpoint") else ""

    @property
    def done(self) -> str:
        """What was done about it: `resumed from 00000040-a1`, `gave up`; empty where there was nothing to do."""
        action = str(self.decision.get("plan") or self.attempt.get("plan") or "")
        if action in {"", "complete"}:
            return ""
        if action == "resume" and self.target == "iteration 0":
            return "started again from iteration 0"
        goes_on = action in {"resume", "rewind", "wait"} and self.target
        return words.action(action) + (f" {'to' if action == 'rewind' else 'from'} {self.target}" if goes_on else "")

    @property
    def change(self) -> str:
        """The change of configuration that was made, or that a hold asks for; empty where there was none."""
        adjustment = self.decision.get("adjustment")
        return words.change(adjustment) if adjustment else ""

    @property
    def asks(self) -> bool:
        """Whether the change waits for a person, who makes it by releasing the run."""
        return self.decision.get("plan") == "hold"


def steps(show: Record, decisions: Sequence[Record] = ()) -> list[Step]:
    """Return the attempts of the reader's `show()`, oldest first, each with its decision."""
    by_attempt = {decision.get("attempt"): decision for decision in decisions}
    attempts = list(show.get("attempts") or ())
    return [
        Step(
            attempt=attempt,
            decision=by_attempt.get(attempt.get("n")) or {},
            following=attempts[number + 1] if number + 1 < len(attempts) else {},
            reached=_reached(attempt, show, newest=number + 1 == len(attempts)),
        )
        for number, attempt in enumerate(attempts)
    ]


def _reached(attempt: Record, show: Record, *, newest: bool) -> object:
    reached = attempt.get("to_iteration")
    living = newest and reached is None and not attempt.get("ended_at")
    if not living or finite(show.get("iteration")) is None:
        return reached
    return max(finite(show.get("iteration")) or 0, finite(attempt.get("from_iteration")) or 0)
