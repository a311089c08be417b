"""From a diagnosis and a history to the next move: the first rung of the cause's ladder that applies.

`plan` is pure: it reads the situation and the policies, and nothing else. Every plan carries a sentence for a person
and the numbers it was made from.
"""

from dataclasses import dataclass, replace
from typing import Any

from stoker.recovery.adjust import propose
from stoker.recovery.conditions import Facts, holds
from stoker.recovery.policy import General, Policies, Row, Rung, load_policies
from stoker.recovery.sentence import Sentence, duration
from stoker.recovery.situation import (
    Adjustment,
    Current,
    Diagnosed,
    PastAttempt,
    Plan,
    Release,
    Situation,
)

__all__ = ["Adjustment", "Current", "Diagnosed", "PastAttempt", "Plan", "Situation", "plan"]


@dataclass(frozen=True, slots=True)
class _Move:
    """A rung that applies, with what it would do here."""

    rung: Rung
    name: str
    used: int
    target: int
    adjustment: Adjustment | None


def plan(situation: Situation, policies: Policies | None = None) -> Plan:
    """What to do after the last attempt of `situation.history`. Never raises for a situation that can occur."""
    policies = policies or load_policies()
    row = policies.row(situation.diagnosis.cause)
    facts = Facts.of(situation, row, policies)
    spent: list[str] = []
    for rung in row.rungs:
        move = _move(rung, row, facts, policies.general, spent)
        if move is not None:
            return _decide(move, facts, policies, spent)
    raise AssertionError(f"the ladder of {row.name} does not end")  # Row refuses such a ladder


def _move(rung: Rung, row: Row, facts: Facts, general: General, spent: list[str]) -> _Move | None:
    """The rung as a move, or None when it does not apply here."""
    if not holds(rung.when, facts):
        return None
    name = f"{row.name}/{rung.id}"
    used = facts.used(rung, name)
    if rung.times is not None and used >= rung.times:
        return None
    target = _target(rung, facts)
    if target is None:
        return None
    adjustment = None
    if rung.adjust is not None:
        adjustment = _adjustment(rung, facts, target)
        if adjustment is None:
            return None
    if rung.launches and rung.counted:
        limit = _spent(rung, facts, general)
        if limit is not None:
            spent.append(limit)
            return None
    return _Move(rung, name, used, target, adjustment)


def _target(rung: Rung, facts: Facts) -> int | None:
    """The iteration to go on from; 0 when no checkpoint fits or the trainer cannot resume. None: the rung does not apply."""
    good, last = facts.situation.good, facts.last
    if rung.from_ == "start" or "resume" not in facts.situation.capabilities:
        return 0
    # Without an onset, all that is known is that the last completed iteration was still well.
    onset = last.last_iteration + 1 if last.onset is None else last.onset
    if rung.from_ == "before_easing":
        eased_from = facts.situation.current.eased_from or 0
        return max((iteration for iteration in good if iteration < min(eased_from, onset)), default=None)
    if rung.from_ == "clear_of_onset":
        return _clear_of(onset, rung, facts)
    below: float = float("inf")
    if rung.from_ == "before_onset":
        below = onset
    elif rung.from_ == "older" and facts.no_iteration:
        below = last.from_iteration
    return max((iteration for iteration in good if iteration < below), default=0)


def _clear_of(onset: int, rung: Rung, facts: Facts) -> int:
    """The newest good checkpoint that leaves a lower learning rate time to ramp up before the onset, else the oldest.

    The loss at the onset was computed from the weights of the step before it: from a checkpoint without a step between
    itself and the onset, the same would come again whatever the learning rate.
    """
    accumulation = max(1, facts.situation.current.grad_accumulation_steps)
    usable = [i for i in facts.situation.good if (i // accumulation + 1) * accumulation < onset]
    ramp = (rung.adjust.ramp_steps if rung.adjust else 0) * accumulation
    return max((i for i in usable if i + ramp < onset), default=min(usable, default=0))


def _adjustment(rung: Rung, facts: Facts, target: int) -> Adjustment | None:
    change = rung.adjust
    situation = facts.situation
    if change is None or change.field not in situation.capabilities:
        return None
    if change.lossy and situation.lossy == "never":
        return None
    return propose(change, situation.current, target=target, reason=situation.diagnosis.cause)


def _spent(rung: Rung, facts: Facts, general: General) -> str | None:
    """Which ceiling forbids another launch, as a sentence."""
    tally = facts.tally
    if tally.launches >= general.launches:
        return f"{tally.launches} launches in all brought no newer checkpoint (ceiling {general.launches})"
    if rung.adjust is None and tally.plain >= general.plain:
        return f"{tally.plain} launches without a change brought no newer checkpoint (ceiling {general.plain})"
    if rung.plain and tally.idle >= general.without_iteration:
        return f"{tally.idle} launches in a row completed no iteration (ceiling {general.without_iteration})"
    return None


def _decide(move: _Move, facts: Facts, policies: Policies, spent: list[str]) -> Plan:
    rung, situation = move.rung, facts.situation
    delay = rung.backoff.delay(move.used, situation.jitter) if rung.backoff else 0.0
    sentence = Sentence(facts, policies, target=move.target, used=move.used, delay=delay, adjustment=move.adjustment)
    reason = sentence.reason(rung, spent if not rung.launches else [])
    numbers = _numbers(move, facts, policies.general)
    if rung.launches:
        asks = _asks(move, facts)
        if asks is not None:
            numbers["target_if_resumed"] = move.target
            held = f"{sentence.happened()}; {asks}"
            return Plan("hold", None, move.adjustment, 0.0, rung.counted, move.name, held, "person", numbers)
        release: Release | None = "time" if rung.action == "wait" else None
        action, target = rung.action, move.target
        adjustment = replace(move.adjustment, reason=reason) if move.adjustment else None
        return Plan(action, target, adjustment, delay, rung.counted, move.name, reason, release, numbers)
    return Plan(
        rung.action, None, None, 0.0, rung.counted and rung.action != "fail", move.name, reason, rung.release, numbers
    )


def _asks(move: _Move, facts: Facts) -> str | None:
    """The question to a person, when the move needs one; None when it may be made."""
    situation = facts.situation
    change = move.adjustment
    if change is not None and change.lossy and situation.lossy == "ask":
        return (
            f"the next thing to try is {change.field} {change.to} instead of {change.from_}, which changes what is "
            "trained on: `stoker resume RUN` accepts that (recovery.lossy: allow does so for good)"
        )
    return _asks_to_start_over(move, facts)


def _asks_to_start_over(move: _Move, facts: Facts) -> str | None:
    if move.target > 0 or facts.restart_free:
        return None
    situation = facts.situation
    lost = f"{max(attempt.last_iteration for attempt in situation.history)} iterations"
    if situation.lost_seconds_if_restarted is not None:
        lost += f" ({duration(situation.lost_seconds_if_restarted)} of training)"
    left = "no good checkpoint to go on from is left"
    if move.rung.from_ == "start":
        left = "no checkpoint on the disk is old enough: the trouble may have begun before all of them"
    return (
        f"{left}, and a start from iteration 0 would lose {lost}: "
        f"`stoker resume RUN` allows that (recovery.start_over: {situation.start_over})"
    )


def _numbers(move: _Move, facts: Facts, general: General) -> dict[str, Any]:
    tally, situation, last = facts.tally, facts.situation, facts.last
    return {
        "iteration": last.where,
        "onset": last.onset,
        "from_iteration": last.from_iteration,
        "last_iteration": last.last_iteration,
        "target": move.target if move.rung.launches else None,
        "lost_iterations": max(0, last.last_iteration - move.target) if move.rung.launches else None,
        "lost_seconds_if_restarted": situation.lost_seconds_if_restarted,
        "good": list(situation.good),
        "best_checkpoint": tally.best,
        "progressed": tally.progressed,
        "rung_used": move.used,
        "rung_times": move.rung.times,
        "launches_without_progress": tally.launches,
        "launches_ceiling": general.launches,
        "plain_without_progress": tally.plain,
        "plain_ceiling": general.plain,
        "without_iteration": tally.idle,
        "without_iteration_ceiling": general.without_iteration,
    }
