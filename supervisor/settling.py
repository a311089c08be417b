"""Record how an attempt ended and what follows from it: one transaction, then the effects."""

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from stoker.recovery.checkpoint.room import pause_s
from stoker.recovery.situation import PastAttempt, Plan
from stoker.supervisor.context import Context
from stoker.supervisor.examine import Outcome
from stoker.supervisor.files import read_json
from stoker.supervisor.keeping import quarantine
from stoker.supervisor.launching import choice_record, spoil_jit
from stoker.supervisor.life import change
from stoker.supervisor.states import Effect, Event

NEWEST = 1 << 53  # a target above every iteration: the newest good checkpoint
_EVENTS = {"resume": Event.AGAIN, "rewind": Event.AGAIN, "wait": Event.DELAY, "hold": Event.HOLD, "fail": Event.FAIL}


def settle(ctx: Context, run_id: str, outcome: Outcome) -> tuple[Effect, ...]:
    """Write the outcome of an attempt into the store and move the run on; return the effects, to be performed."""
    if ctx.store.run(run_id)["desired"] == "cancelled":  # perhaps only after it was examined
        outcome = replace(outcome, plan=None)
    moved = quarantine(ctx.home.run(run_id), outcome.choice.rejected)
    with ctx.store.transaction():
        if moved:
            ctx.store.event(run_id, "quarantined", f"bad checkpoints moved to quarantine: {', '.join(moved)}")
        _end_attempt(ctx, run_id, outcome)
        return _next(ctx, run_id, outcome)


def _end_attempt(ctx: Context, run_id: str, outcome: Outcome) -> None:
    case, ending = outcome.case, outcome.ending
    start = ending.last("start") or {}
    report = ending.last("train") or ending.last("final") or {}
    loss = report.get("train_loss")
    reached = max(ending.iteration, case.from_iteration)
    attempt: dict[str, Any] = {
        "ended_at": ending.ended_at or ctx.clock.wall(),
        "to_iteration": reached,
        "exit_code": ending.code,
        "signal": ending.signal,
        "cause": _cause(outcome),
        "diagnosis": _json(_diagnosis_record(outcome)),
        "plan": _json(_plan_record(outcome.plan)),
        "best_checkpoint": outcome.best,
        "train_s": ending.train_seconds,
        "lost_iterations": 0,
        "stop_stage": None,
    }
    if start.get("resume"):
        attempt["resume"] = start["resume"]
        attempt["labels"] = json.dumps(start.get("label_reasons") or [])
    if outcome.choice.rejected:
        attempt["choice"] = json.dumps(choice_record(outcome.choice))
    ctx.store.update_attempt(run_id, case.n, **attempt)
    exact = not start.get("label_reasons")
    columns: dict[str, Any] = {"iteration": reached}
    if isinstance(loss, (int, float)):
        columns["loss"] = loss
    if not exact:
        columns["exact"] = 0
    ctx.store.update_run(run_id, **columns)
    if ending.signal and ending.phase in {None, "load", "compile"}:
        row = next(a for a in ctx.store.attempts(run_id) if a["n"] == case.n)
        spoil_jit(ctx, row["jit"])


def _next(ctx: Context, run_id: str, outcome: Outcome) -> tuple[Effect, ...]:
    case = outcome.case
    if outcome.success.reached:
        final = dict(outcome.success.final or {})
        return change(ctx, run_id, Event.SUCCEEDED, _success_words(case.iters, final), final=json.dumps(final))
    if outcome.plan is None:
        return _stopped(ctx, run_id, outcome)
    return _planned(ctx, run_id, outcome, outcome.plan)


def _success_words(iters: int | None, final: Mapping[str, Any]) -> str:
    if not final:
        return "the command ended with exit status 0"
    return f"iteration {iters} reached, final adapter verified"


def _stopped(ctx: Context, run_id: str, outcome: Outcome) -> tuple[Effect, ...]:
    """A person asked for the end of the attempt, and that is how it ended."""
    run = ctx.store.run(run_id)
    if run["desired"] == "cancelled":
        return change(ctx, run_id, Event.DROPPED, "cancelled by you")
    onward = {"target": NEWEST, "mode": "exact"}
    if outcome.case.trainer.resume == "none":
        onward = {"target": 0}
    return change(ctx, run_id, Event.PAUSED, "paused by you", desired=None, release="person", next=json.dumps(onward))


def _planned(ctx: Context, run_id: str, outcome: Outcome, plan: Plan) -> tuple[Effect, ...]:
    run = ctx.store.run(run_id)
    target = plan.target if plan.target is not None else plan.numbers.get("target_if_resumed", NEWEST)
    if plan.action == "hold" and outcome.case.trainer.resume == "none":
        target = 0  # running it again from the start is all that such a trainer can do
    onward: dict[str, Any] = {"target": target, "mode": "exact"}
    if target == 0:
        onward["start_over"] = True
    if plan.release == "disk":
        onward["needs"] = _needs(ctx, run_id, outcome)
    columns: dict[str, Any] = {"next": json.dumps(onward), "release": plan.release, "desired": None}
    record = plan.adjustment.record() if plan.adjustment else None
    event, reason = _EVENTS[plan.action], plan.reason
    by_itself = event in {Event.AGAIN, Event.DELAY} or plan.release == "disk"
    if run["desired"] == "paused" and by_itself:
        event, reason, columns["release"] = Event.PAUSED, f"paused by you; {plan.reason}", "person"
    if record is not None and event in {Event.HOLD, Event.PAUSED}:
        onward["adjustment"] = record  # made when a person resumes the run
        columns["next"] = json.dumps(onward)
    elif record is not None and plan.action != "fail":
        adjustments = [*json.loads(run["adjustments"]), {"attempt": outcome.case.n + 1, **record}]
        columns |= {"adjustments": json.dumps(adjustments), "exact": 0}
        ctx.store.event(run_id, "adjusted", f"{record['field']}: {record['from']} -> {record['to']}", **record)
    if event is Event.DELAY:
        columns["wake_at"] = ctx.clock.wall() + plan.delay_s
    elif plan.release == "disk":
        columns["wake_at"] = ctx.clock.wall() + pause_s(int(plan.numbers["rung_used"]))
    return change(ctx, run_id, event, reason, **columns)


def _needs(ctx: Context, run_id: str, outcome: Outcome) -> int:
    """Return the bytes that the trainer found no room for; 0 when it did not say.

    It counts what had to stay free then. That is a setting, which may be another one when the run goes on.
    """
    launched = read_json(ctx.home.run(run_id).attempt(outcome.case.n).launch) or {}
    kept_free = (launched.get("trainer") or {}).get("min_free") or 0
    return max(0, int((outcome.ending.last("fault") or {}).get("needs") or 0) - kept_free)


def _cause(outcome: Outcome) -> str | None:
    if outcome.success.reached:
        return "healthy"
    return outcome.diagnosis.cause if outcome.diagnosis else "interrupted"


def _diagnosis_record(outcome: Outcome) -> dict[str, Any] | None:
    diagnosis = outcome.diagnosis
    if diagnosis is None:
        return None
    return {
        "cause": diagnosis.cause,
        "confidence": diagnosis.confidence,
        "retryable": diagnosis.retryable,
        "advice": diagnosis.advice,
        "onset": diagnosis.onset,
        "fingerprint": diagnosis.fingerprint,
        "simulated": diagnosis.simulated,
        "missing": list(outcome.success.missing),
        "findings": [
            {"rule": f.rule, "cause": f.cause, "role": f.role, "file": f.file, "line": f.line, "text": f.text,
             "simulated": f.simulated}
            for f in diagnosis.findings
        ],
    }  # fmt: skip


def _plan_record(plan: Plan | None) -> dict[str, Any] | None:
    if plan is None:
        return None
    return {
        "action": plan.action,
        "target": plan.target,
        "row": plan.row,
        "reason": plan.reason,
        "counted": plan.counted,
        "delay_s": plan.delay_s,
        "release": plan.release,
        "adjustment": plan.adjustment.record() if plan.adjustment else None,
        "numbers": plan.numbers,
    }


def _json(value: Any) -> str | None:
    return None if value is None else json.dumps(value, default=str)


def history(ctx: Context, run_id: str, before: int) -> tuple[PastAttempt, ...]:
    """Return the attempts before `before` that ended in trouble since budgets were last cleared, oldest first."""
    cleared = ctx.store.run(run_id)["budget_from"]
    past = []
    for row in ctx.store.attempts(run_id):
        if not (cleared < row["n"] < before) or row["diagnosis"] is None:
            continue
        diagnosis = json.loads(row["diagnosis"])
        plan = json.loads(row["plan"]) if row["plan"] else {}
        past.append(
            PastAttempt(
                n=row["n"],
                cause=diagnosis["cause"],
                fingerprint=diagnosis["fingerprint"],
                from_iteration=row["from_iteration"],
                last_iteration=row["to_iteration"],
                best_checkpoint=row["best_checkpoint"],
                plan=plan.get("row"),
                counted=bool(plan.get("counted", True)),
                onset=diagnosis["onset"],
            )
        )
    return tuple(past)
