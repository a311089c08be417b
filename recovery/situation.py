"""What a decision about a run is made from, and what it is: plain facts without behaviour."""

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

Action = Literal["resume", "rewind", "wait", "hold", "fail", "complete"]
Release = Literal["disk", "person", "time"]


class Found(Protocol):
    """A finding of the diagnosis, as far as a policy looks at it."""

    @property
    def rule(self) -> str:
        """Id of the rule that matched."""

    @property
    def cause(self) -> str:
        """What the rule says happened."""

    @property
    def file(self) -> str:
        """The log's name; may be empty."""

    @property
    def line(self) -> int:
        """Its line, from 1; 0 = none."""

    @property
    def text(self) -> str:
        """The line itself."""


class Diagnosed(Protocol):
    """A diagnosis, as far as a policy looks at it (`stoker.recovery.diagnose.Diagnosis` is one)."""

    @property
    def cause(self) -> str:
        """One of the causes that policies know; any other is treated as `unknown`."""

    @property
    def confidence(self) -> float:
        """0 to 1."""

    @property
    def findings(self) -> Sequence[Found]:
        """What matched, the deciding ones anywhere among them."""

    @property
    def retryable(self) -> str:
        """`yes`, `no` or `adjusted`."""

    @property
    def advice(self) -> str:
        """What a person can do."""

    @property
    def onset(self) -> int | None:
        """First iteration at which the trouble showed; None = not known."""

    @property
    def fingerprint(self) -> str:
        """Identity of the cause, equal for the same place; empty = none."""


@dataclass(frozen=True, slots=True)
class PastAttempt:
    """One attempt that ended in trouble, as the record keeps it.

    Attributes:
        n: its number in the run.
        cause: of its diagnosis.
        fingerprint: identity of the cause ("the same place"); empty = none.
        from_iteration: iterations that were complete when it started.
        last_iteration: iterations that were complete when it ended.
        best_checkpoint: iteration of the newest good checkpoint that it committed; None = it committed none.
        plan: `Plan.row` of the plan that was made after it; None for the attempt that is being decided about.
        counted: `Plan.counted` of that plan.
        onset: first iteration at which the trouble showed, where the diagnosis knows it.
    """

    n: int
    cause: str
    fingerprint: str
    from_iteration: int
    last_iteration: int
    best_checkpoint: int | None
    plan: str | None
    counted: bool
    onset: int | None

    @property
    def where(self) -> int:
        """The iteration that the trouble is said to be at."""
        return self.last_iteration if self.onset is None else self.onset


@dataclass(frozen=True, slots=True)
class Current:
    """The values in effect during the attempt that ended; None for `micro_batch` = the whole batch at once.

    `learning_rate` is the last value that was used (None = not known), `lr_factor` the product of the multipliers so
    far, `step` the last optimizer step. A job without `grad_accumulation_steps` has 1. `eased_from` is the iteration from
    which the learning rate was lowered (the last time); None = it never was.
    """

    batch_size: int
    micro_batch: int | None
    grad_checkpoint: bool
    max_seq_length: int
    lr_factor: float
    learning_rate: float | None
    step: int
    grad_accumulation_steps: int = 1
    eased_from: int | None = None


@dataclass(frozen=True, slots=True)
class Situation:
    """Everything a plan depends on: equal situations give equal plans.

    Attributes:
        diagnosis: why the attempt ended.
        attempt: its number.
        history: the attempts since budgets were last cleared, oldest first, this one last.
        current: the values in effect.
        good: iterations of the verified, eligible checkpoints, newest first.
        lossy: may a change that alters what is trained be made?
        start_over: may the run go back to iteration 0 when no good checkpoint is left?
        lost_seconds_if_restarted: training time that would be lost by that; None = not known.
        capabilities: what the trainer can do: "resume" and the fields that may be adjusted.
        names: iteration -> name of the checkpoint, for the sentence that people read.
        jitter: a fraction from 0 to 1 that spreads delays; 0.5 = the plain delay.
    """

    diagnosis: Diagnosed
    attempt: int
    history: tuple[PastAttempt, ...]
    current: Current
    good: tuple[int, ...]
    lossy: Literal["allow", "ask", "never"]
    start_over: Literal["ask", "allow", "never"]
    lost_seconds_if_restarted: float | None
    capabilities: frozenset[str]
    names: Mapping[int, str] = dataclasses.field(default_factory=dict)
    jitter: float = 0.5


@dataclass(frozen=True, slots=True)
class Adjustment:
    """One recorded change of configuration; `from_` and `to` are the values in effect.

    `launch` holds what the trainer needs beyond the new value: for `learning_rate` the multiplier
    `{"from_step", "factor", "ramp_steps"}`.
    """

    field: str
    from_: Any
    to: Any
    reason: str
    preserves: tuple[str, ...]
    lossy: bool
    launch: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    def record(self) -> dict[str, Any]:
        """The form in which it is stored and shown."""
        return {
            "field": self.field,
            "from": self.from_,
            "to": self.to,
            "reason": self.reason,
            "preserves": list(self.preserves),
            "lossy": self.lossy,
            "launch": dict(self.launch),
        }


@dataclass(frozen=True, slots=True)
class Plan:
    """What to do after an attempt ended.

    Attributes:
        action: `resume`, `rewind` and `wait` launch another attempt, `wait` after `delay_s`; `hold` and `fail` do not.
        target: iteration to go on from; 0 = from the start; None = no launch.
        adjustment: the one change of configuration. With `hold` it is the change that is asked for: made when a person
            resumes the run.
        delay_s: seconds to wait before the launch.
        counted: does it count against the ceilings?
        row: the policy row and rung, `oom/halve-micro-batch`.
        reason: a sentence for a person.
        release: what ends a `wait` ("time") or a `hold` ("disk": room on the disk; "person").
        numbers: what the decision was made from; for a hold that asks, `target_if_resumed`.
    """

    action: Action
    target: int | None
    adjustment: Adjustment | None
    delay_s: float
    counted: bool
    row: str
    reason: str
    release: Release | None
    numbers: dict[str, Any]
