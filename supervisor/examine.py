"""Look at an ended attempt: evidence → diagnosis → checkpoints → plan. Runs beside the daemon's loop: it reads files only.

Nothing is moved or written here; the daemon performs what the outcome says.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import takewhile
from pathlib import Path
from typing import Any

from stoker.profiles.trainer_rows import TrainerRow
from stoker.recovery.checkpoint.choose import Choice, candidates, choose, eligible
from stoker.recovery.checkpoint.origin import of_run
from stoker.recovery.diagnose import Diagnosis, diagnose
from stoker.recovery.evidence import Evidence, Fault, Report
from stoker.recovery.plan import plan
from stoker.recovery.policy import Policies
from stoker.recovery.rules import RuleSet
from stoker.recovery.situation import Adjustment, Current, PastAttempt, Plan, Situation
from stoker.supervisor.ending import Ending, Success, judge, read_ending
from stoker.supervisor.excerpt import Excerpt, read_excerpt
from stoker.supervisor.paths import RunPaths
from stoker.supervisor.verified import Verified

_NEVER = "interrupted/never-started"
_NEVERS = 5  # attempts in a row that never started a trainer


@dataclass(frozen=True, slots=True)
class Case:
    """An ended attempt and what is known of its run.

    Attributes:
        paths: of the run.
        n: the attempt.
        from_iteration: iterations that were complete when it started.
        config: the configuration in effect.
        iters: iterations asked for; None for trainers that have none.
        trainer: the row of its trainer.
        capabilities: what may be adjusted, and `resume`.
        history: earlier attempts since budgets were cleared, oldest first.
        starts: attempt -> iteration it started from, all attempts.
        micro_batch, lr_factor, eased_from: adjustments in effect; the last is the iteration where the rate was lowered.
        lossy, start_over: what the job allows.
        stop: what a person asked for while it ran: paused, cancelled; None = nobody asked.
        host: host events during the attempt: rebooted.
        trained_s: seconds of training in earlier attempts.
        launched: False when the daemon died before the shim was started.
        rules, policies: with the job's own ones.
        jitter: a fraction that spreads delays.
    """

    paths: RunPaths
    n: int
    from_iteration: int
    config: Mapping[str, Any]
    iters: int | None
    trainer: TrainerRow
    capabilities: frozenset[str]
    history: tuple[PastAttempt, ...]
    starts: Mapping[int, int]
    micro_batch: int | None
    lr_factor: float
    eased_from: int | None
    lossy: str
    start_over: str
    stop: str | None
    host: tuple[str, ...]
    trained_s: float
    launched: bool
    rules: RuleSet | None
    policies: Policies | None
    jitter: float


@dataclass(frozen=True, slots=True)
class Outcome:
    """What the daemon has to record and to do.

    Attributes:
        case: what was looked at.
        ending: exit status and progress.
        success: the verdict by evidence.
        diagnosis: why it ended; None after a success or a stop that a person asked for.
        plan: what to do; None likewise.
        choice: the checkpoint to go on from and those that failed verification.
        best: iteration of the newest good checkpoint that this attempt committed.
    """

    case: Case
    ending: Ending
    success: Success
    diagnosis: Diagnosis | None = None
    plan: Plan | None = None
    choice: Choice = field(default_factory=lambda: Choice(None, ()))
    best: int | None = None

    @property
    def adjustment(self) -> Adjustment | None:
        """The one change of configuration that the plan makes."""
        return self.plan.adjustment if self.plan else None


def examine(case: Case, verified: Verified) -> Outcome:
    """Return the outcome of an ended attempt."""
    ending = read_ending(case.paths.attempt(case.n))
    if not case.launched and case.stop is None:
        return Outcome(case, ending, Success(reached=False), *_never_started(case))
    success = Success(reached=False)
    if case.launched:
        success = judge(ending, case.trainer.success, case.iters, of_run(case.paths.dir, case.n))
    if success.reached:
        return Outcome(case, ending, success)
    if case.stop is not None and not ending.last("fault"):
        return Outcome(case, ending, success)
    diagnosis = diagnose(_evidence(case, ending, success), case.rules)
    choice = choose(candidates(case.paths.checkpoints), case.starts, verified.verdict, before=diagnosis.onset)
    good = _good(case, choice)
    best = max((i for i, (attempt, _) in good.items() if attempt == case.n), default=None)
    situation = Situation(
        diagnosis=diagnosis,
        attempt=case.n,
        history=(*case.history, _this(case, ending, diagnosis, best)),
        current=_current(case, ending),
        good=tuple(sorted(good, reverse=True)),
        lossy=case.lossy,  # type: ignore[arg-type]  # checked by the job's schema
        start_over=case.start_over,  # type: ignore[arg-type]  # likewise
        lost_seconds_if_restarted=case.trained_s + ending.train_seconds,
        capabilities=case.capabilities,
        names={iteration: name for iteration, (_, name) in good.items()},
        jitter=case.jitter,
    )
    return Outcome(case, ending, success, diagnosis, plan(situation, case.policies), choice, best)


def _never_started(case: Case) -> tuple[Diagnosis, Plan]:
    """The daemon, or the shim, died after the attempt was recorded and before a trainer was started: nothing happened.

    That counts against no budget, but when it happens again and again something here kills them.
    """
    said = _last_line(case.paths.attempt(case.n).shim_log)
    text = f"the shim ended before it started the trainer: {said}" if said else (
        "the daemon ended before the trainer was started"
    )  # fmt: skip
    in_a_row = 1 + sum(1 for _ in takewhile(lambda past: past.plan == _NEVER, reversed(case.history)))
    diagnosis = Diagnosis(
        cause="interrupted", confidence=1.0, findings=(), retryable="yes", advice="nothing to do", onset=None,
        fingerprint="", simulated=False,
    )  # fmt: skip
    hold = in_a_row >= _NEVERS
    reason = f"{text}, {in_a_row} times in a row; find out why, then: stoker resume RUN" if hold else text
    plan = Plan(
        action="hold" if hold else "resume", target=None if hold else case.from_iteration, adjustment=None, delay_s=0.0,
        counted=False, row=_NEVER, reason=reason, release="person" if hold else None,
        numbers={"target_if_resumed": case.from_iteration},
    )  # fmt: skip
    return diagnosis, plan


def _last_line(path: Path) -> str:
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").split("\n")
    except OSError:
        return ""
    return next((line.strip() for line in reversed(lines) if line.strip()), "")


def _good(case: Case, choice: Choice) -> dict[int, tuple[int, str]]:
    """Return iteration -> (attempt, name) of the checkpoints from the chosen one down.

    Older ones are not read in full now; each is verified before it is used.
    """
    if choice.chosen is None:
        return {}
    found = candidates(case.paths.checkpoints)
    return {
        c.iteration: (c.attempt, c.name)
        for c in reversed(found)
        if eligible(c, case.starts) and c.iteration <= choice.chosen.iteration
    }


def _evidence(case: Case, ending: Ending, success: Success) -> Evidence:
    fault = ending.last("fault")
    log = _log_of(case)
    return Evidence(
        log=log.text,
        skipped=log.skipped,
        exit_code=ending.code,
        signal=ending.signal,
        running=False,
        phase=ending.phase,
        iteration=ending.iteration,
        iters=case.iters,
        reports=_reports(ending),
        fault=_fault(fault) if fault else None,
        host=case.host,
        stop_requested=case.stop is not None,
        success=success.reached if ending.known else None,
        config=case.config,
    )


def _log_of(case: Case) -> Excerpt:
    """Return the attempt's log; an attempt that never wrote one has said nothing."""
    try:
        return read_excerpt(case.paths.attempt(case.n).log)
    except OSError:
        return Excerpt("", None)


def _reports(ending: Ending) -> tuple[Report, ...]:
    return tuple(
        Report(
            iteration=int(row.get("iteration") or 0),
            train_loss=_number(row.get("train_loss")),
            val_loss=_number(row.get("val_loss")),
            learning_rate=_number(row.get("learning_rate")),
            tokens_per_second=_number(row.get("tokens_per_second")),
            peak_memory=_number(row.get("peak_memory")),
            line=None,
        )
        for row in ending.rows
        if row.get("kind") in {"train", "val"}
    )


def _fault(row: Mapping[str, Any]) -> Fault:
    last = row.get("last_finite") or {}
    return Fault(
        cause=str(row.get("cause")),
        iteration=row.get("iteration"),
        what=str(row.get("what")),
        last_finite_iteration=last.get("iteration"),
        simulated=bool(row.get("simulated")),
    )


def _number(value: Any) -> float | None:
    """Return a number of a metrics row; `nan` and `inf` stand there as strings, since JSON has neither."""
    return None if value is None else float(value)


def _current(case: Case, ending: Ending) -> Current:
    accumulation = int(case.config.get("grad_accumulation_steps") or 1)
    return Current(
        batch_size=int(case.config.get("batch_size") or 1),
        micro_batch=case.micro_batch,
        grad_checkpoint=bool(case.config.get("grad_checkpoint")),
        max_seq_length=int(case.config.get("max_seq_length") or 0),
        lr_factor=case.lr_factor,
        learning_rate=_rate(case, ending),
        step=ending.iteration // accumulation,
        grad_accumulation_steps=accumulation,
        eased_from=case.eased_from,
    )


def _rate(case: Case, ending: Ending) -> float | None:
    """Return the learning rate in effect: of a schedule what was reported last, else the configured one (past its ramp)."""
    constant = case.config.get("learning_rate")
    if isinstance(constant, (int, float)) and not case.config.get("lr_schedule"):
        return float(constant)
    report = ending.last("train")
    return _number(report.get("learning_rate")) if report else None


def _this(case: Case, ending: Ending, diagnosis: Diagnosis, best: int | None) -> PastAttempt:
    return PastAttempt(
        n=case.n,
        cause=diagnosis.cause,
        fingerprint=diagnosis.fingerprint,
        from_iteration=case.from_iteration,
        last_iteration=max(ending.iteration, case.from_iteration),
        best_checkpoint=best,
        plan=None,
        counted=True,
        onset=diagnosis.onset,
    )
