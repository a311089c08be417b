"""The facts of a situation that policies ask about, and whether the conditions of a rung hold."""

from dataclasses import dataclass
from fnmatch import fnmatchcase

from stoker.recovery.ledger import Tally, completed_none, tally
from stoker.recovery.policy import General, Policies, Row, Rung, When
from stoker.recovery.situation import Found, PastAttempt, Situation


@dataclass(frozen=True, slots=True)
class Facts:
    """A situation, counted.

    Attributes:
        last: the attempt that is decided about.
        alike: earlier attempts whose cause has the same row.
        finding: the finding that decided the diagnosis; None when there is none.
        restart_free: a start from iteration 0 needs nobody's consent.
    """

    situation: Situation
    row: Row
    last: PastAttempt
    tally: Tally
    alike: tuple[PastAttempt, ...]
    finding: Found | None
    restart_free: bool

    @classmethod
    def of(cls, situation: Situation, row: Row, policies: Policies) -> "Facts":
        """Count the history of a situation for the row of its cause."""
        *earlier, last = situation.history
        alike = tuple(attempt for attempt in earlier if policies.row(attempt.cause) is row)
        findings = situation.diagnosis.findings
        deciding = [found for found in findings if found.cause == situation.diagnosis.cause]
        finding = next(iter([*deciding, *findings]), None)
        free = _restart_free(situation, policies.general)
        return cls(situation, row, last, tally(situation.history, policies), alike, finding, free)

    @property
    def no_iteration(self) -> bool:
        """The attempt ended before it completed an iteration."""
        return completed_none(self.last)

    @property
    def same_iteration(self) -> bool | None:
        """Did an attempt of this row end at the same iteration before? None = no attempt of this row ended before."""
        if not self.alike:
            return None
        return any(attempt.where == self.last.where for attempt in self.alike)

    @property
    def same_place(self) -> bool:
        """Did an attempt without progress in between have the same fingerprint?"""
        print_ = self.situation.diagnosis.fingerprint
        return bool(print_) and any(attempt.fingerprint == print_ for attempt in self.tally.since)

    @property
    def eased(self) -> bool:
        """Was the learning rate lowered in the middle of the run, so that what came before may have spoiled the weights?"""
        return bool(self.situation.current.eased_from)

    @property
    def launched_by(self) -> str | None:
        """The `row/rung` of the plan that this attempt was the launch of; None for the first."""
        history = self.situation.history
        return history[-2].plan if len(history) > 1 else None

    def used(self, rung: Rung, name: str) -> int:
        """How often the rung was used, over the period that it counts."""
        uses = self.tally.rungs if rung.per == "progress" else self.tally.rungs_in_run
        return uses.get(name, 0)

    def finding_matches(self, patterns: tuple[str, ...]) -> bool:
        """Does a wildcard pattern fit the deciding finding's rule or text, or the fingerprint? Case does not matter."""
        texts = [self.situation.diagnosis.fingerprint]
        if self.finding is not None:
            texts += [self.finding.rule, self.finding.text]
        return any(fnmatchcase(text.lower(), pattern.lower()) for pattern in patterns for text in texts)


def _restart_free(situation: Situation, general: General) -> bool:
    if situation.start_over == "allow" or max(attempt.last_iteration for attempt in situation.history) == 0:
        return True
    if situation.start_over == "never":
        return False
    if "resume" not in situation.capabilities:
        return True  # running it again from the start is all that such a trainer can do
    lost = situation.lost_seconds_if_restarted
    return lost is not None and lost < general.restart_free_seconds


def holds(when: When, facts: Facts) -> bool:
    """Do all conditions that are given hold?"""
    seen: dict[str, bool | None] = {
        "same_iteration": facts.same_iteration,
        "same_place": facts.same_place,
        "no_iteration": facts.no_iteration,
        "progress": facts.tally.progressed,
        "resumed": facts.last.from_iteration > 0,
        "eased": facts.eased,
        "restart_free": facts.restart_free,
    }
    for name, value in seen.items():
        wanted = getattr(when, name)
        if wanted is not None and wanted != value:
            return False
    if when.after is not None and facts.launched_by != f"{facts.row.name}/{when.after}":
        return False
    if when.retryable is not None and facts.situation.diagnosis.retryable not in when.retryable:
        return False
    return when.finding is None or facts.finding_matches(when.finding)
