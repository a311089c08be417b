"""The first sentences about a run: what became of it, what it cost, and whether its weights are exact."""

from collections.abc import Mapping, Sequence
from typing import Any

from stoker.supervisor.review import words
from stoker.supervisor.review.format import count, duration, finite, percent, plural, wall
from stoker.supervisor.review.steps import Step, steps

Run = Mapping[str, Any]


def verdict(show: Run, *, now: float) -> str:
    """Return what became of the run, in one to four sentences."""
    sentences = [_outcome(show, now), _recovered(steps(show), failed=show.get("state") == "failed"), exactness(show)]
    if show.get("state") in words.TRAINING and (risk := words.at_risk(show)):
        sentences += [f"{said[0].upper()}{said[1:]}." for said in (risk, words.cadence(show)) if said]
    return " ".join(sentence for sentence in sentences if sentence)


def exactness(show: Run) -> str:
    """Return whether the weights are those of an uninterrupted run, and if not, why not."""
    attempts = show.get("attempts") or ()
    if not attempts or not label(show) or show.get("state") in {"failed", "cancelled"}:
        return ""
    final = show.get("state") == "completed"
    if show["exact"]:
        return (
            "Exact: the weights are those of a run without interruptions."
            if final
            else "Exact so far: as if it had never been interrupted."
        )
    reasons = [words.label(reason) for reason in show.get("label_reasons") or ()]
    reasons = reasons or [words.change(adjustment) for adjustment in show.get("adjustments") or ()]
    because = f" ({'; '.join(dict.fromkeys(reasons))})" if reasons else ""
    unproved = bool(reasons) and all(reason.startswith("unproved_") for reason in reasons)
    how = "not shown to be" if unproved else "not"
    return f"Warm{because}: {how} byte for byte the weights of a run without interruptions."


def label(show: Run) -> str:
    """Return `exact` or `warm`; empty where no trainer has said it: none has begun to train, or it cannot tell."""
    if show.get("exact") is False:
        return "warm"
    said = any(attempt.get("label_reasons") is not None for attempt in show.get("attempts") or ())
    return "exact" if show.get("exact") and said else ""


def _outcome(show: Run, now: float) -> str:
    attempts = show.get("attempts") or ()
    state, reason = str(show.get("state")), words.why(show).rstrip(".")
    tries = f"over {plural(len(attempts), 'attempt')}" if len(attempts) > 1 else "in one attempt"
    because = f": {reason}" if reason else ""
    if state == "completed":
        took = _took(show, now)
        spent = f" in {took}" if took else ""
        iterations = show.get("iteration") or show.get("iters")  # a command that reports none has none
        work = f" {plural(iterations, 'iteration')}" if iterations else ""
        return f"Completed{work}{spent}, {tries}."
    total = f" of {count(show['iters'])}" if show.get("iters") else ""
    reached = f"iteration {count(show.get('iteration') or 0)}{total}"
    if state in {"failed", "cancelled"}:
        return f"{state.capitalize()} at {reached}, {tries}{because}."
    if state in words.TRAINING:
        left = words.eta(show)
        done = f", done in about {left}" if left != "-" else ""
        attempt = f"attempt {count(show.get('attempt'))}" if show.get("attempt") else "the first attempt"
        return f"{state.capitalize()}: {attempt}, {reached}{done}{because}."
    if not attempts:
        return f"{state.capitalize()}{because}."
    return f"{state.capitalize()} at {reached}{because}."


def _recovered(told: Sequence[Step], *, failed: bool) -> str:
    """What went wrong on the way and was dealt with: the attempts before the newest."""
    tally: dict[str, int] = {}
    for step in told[:-1]:
        if step.cause not in {"", "healthy"} and not step.on_request:
            tally[step.cause] = tally.get(step.cause, 0) + 1
    if not tally:
        return ""
    causes = ", ".join(cause + (f" ({times} times)" if times > 1 else "") for cause, times in tally.items())
    again = int(sum(finite(step.attempt.get("lost_iterations")) or 0 for step in told))
    cost = f"{plural(again, 'iteration')} had to be done again" if again else "no iteration was lost"
    return f"Before that: {causes}; {cost}." if failed else f"Recovered from {causes}; {cost}."


def _took(show: Run, now: float) -> str:
    started, ended = wall(show.get("started_at")), wall(show.get("ended_at"))
    if started is None:
        return ""
    total = duration(max(0.0, (now if ended is None else ended) - started))
    return f"{total} (ETTR {percent(show['ettr'])})" if finite(show.get("ettr")) is not None else total
