"""The life of a run as one table: `advance(state, event) -> Step`. Pure.

```
            ┌── block/unblock ──┐
 admitted ─▶ queued ◀───────────┴─ blocked
              │ pick      ▲ wake / resume / retry
              ▼           │
           starting ─▶ running ◀─▶ stalled      waiting (until a time)
              └─────────┬──┴─────────┘          held    (until a person, or room on the disk)
                        ▼ ended: plan                ▲
        completed / failed / queued again / waiting ─┘       stopping ─▶ held (paused) / cancelled
```
"""

from dataclasses import dataclass
from enum import StrEnum


class State(StrEnum):
    """Where a run is (DESIGN section 6)."""

    QUEUED = "queued"
    BLOCKED = "blocked"
    STARTING = "starting"
    RUNNING = "running"
    STALLED = "stalled"
    STOPPING = "stopping"
    WAITING = "waiting"
    HELD = "held"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"


class Event(StrEnum):
    """What happened to a run."""

    BLOCK = "block"  # a run that it needs has not completed
    UNBLOCK = "unblock"  # all runs that it needs have completed
    PICK = "pick"  # a slot is free and the lease is taken
    STARTED = "started"  # the shim lives
    STALL = "stall"  # a hang is suspected
    PROGRESS = "progress"  # iterations again
    PAUSE = "pause"  # asked by a person
    CANCEL = "cancel"  # asked by a person
    RESUME = "resume"  # asked by a person, or the condition of the hold ended
    RETRY = "retry"  # asked by a person
    EDIT = "edit"  # asked by a person: the configuration of the next attempt changes
    WAKE = "wake"  # the wait is over
    SUCCEEDED = "succeeded"  # the attempt ended and the evidence of success is there
    AGAIN = "again"  # the attempt ended; the plan is another one at once
    DELAY = "delay"  # ... another one later
    HOLD = "hold"  # ... wait for a person or a condition
    FAIL = "fail"  # ... give up
    PAUSED = "paused"  # the attempt ended because a person paused it
    DROPPED = "dropped"  # the attempt ended because a person cancelled it


class Effect(StrEnum):
    """What the daemon has to do because of a step."""

    LAUNCH = "launch"  # prepare the attempt and start the shim
    TERMINATE = "terminate"  # begin the stop ladder
    RECORD = "record"  # one line in training_runs.jsonl
    NOTIFY = "notify"  # run the hook command
    CLEAR_BUDGETS = "clear_budgets"  # a person said: try again


@dataclass(frozen=True, slots=True)
class Step:
    """The state after an event, and what has to be done."""

    state: State
    effects: tuple[Effect, ...] = ()


class NotPossibleError(Exception):
    """The event makes no sense in this state; the message is for people."""


ACTIVE = frozenset({State.STARTING, State.RUNNING, State.STALLED, State.STOPPING})  # a trainer may be alive
ENDED = frozenset({State.COMPLETED, State.FAILED, State.CANCELLED})
_IDLE = frozenset({State.QUEUED, State.BLOCKED, State.WAITING})
_LIVE = frozenset({State.STARTING, State.RUNNING, State.STALLED})

_ENDING = (Effect.RECORD, Effect.NOTIFY)

# (states) x event -> step; None: the state stays. Every pair that is not here is refused with a sentence (test_states
# walks all of them).
_ROWS: tuple[tuple[frozenset[State], Event, Step | None], ...] = (
    (frozenset({State.QUEUED}), Event.BLOCK, Step(State.BLOCKED)),
    (frozenset({State.BLOCKED}), Event.UNBLOCK, Step(State.QUEUED)),
    (frozenset({State.QUEUED}), Event.PICK, Step(State.STARTING, (Effect.LAUNCH,))),
    (frozenset({State.STARTING}), Event.STARTED, Step(State.RUNNING)),
    (frozenset({State.RUNNING}), Event.STALL, Step(State.STALLED)),
    (frozenset({State.STALLED}), Event.PROGRESS, Step(State.RUNNING)),
    (_IDLE, Event.PAUSE, Step(State.HELD)),
    (_LIVE, Event.PAUSE, Step(State.STOPPING, (Effect.TERMINATE,))),
    (_IDLE | {State.HELD}, Event.CANCEL, Step(State.CANCELLED, (Effect.RECORD,))),
    (_LIVE | {State.STOPPING}, Event.CANCEL, Step(State.STOPPING, (Effect.TERMINATE,))),
    (frozenset({State.HELD}), Event.RESUME, Step(State.QUEUED)),
    (frozenset({State.FAILED, State.CANCELLED}), Event.RETRY, Step(State.QUEUED, (Effect.CLEAR_BUDGETS,))),
    (_IDLE | {State.HELD, State.FAILED, State.CANCELLED}, Event.EDIT, None),
    (frozenset({State.COMPLETED}), Event.EDIT, Step(State.QUEUED)),  # more iterations
    (frozenset({State.WAITING}), Event.WAKE, Step(State.QUEUED)),
    (ACTIVE, Event.SUCCEEDED, Step(State.COMPLETED, _ENDING)),
    (ACTIVE, Event.AGAIN, Step(State.QUEUED)),
    (ACTIVE, Event.DELAY, Step(State.WAITING)),
    (ACTIVE | _IDLE, Event.HOLD, Step(State.HELD, (Effect.NOTIFY,))),
    (ACTIVE | _IDLE, Event.FAIL, Step(State.FAILED, _ENDING)),
    (frozenset({State.STOPPING}), Event.PAUSED, Step(State.HELD)),
    (frozenset({State.STOPPING}), Event.DROPPED, Step(State.CANCELLED, (Effect.RECORD,))),
)

TRANSITIONS: dict[tuple[State, Event], Step] = {
    (state, event): step or Step(state) for states, event, step in _ROWS for state in states
}


def advance(state: State, event: Event) -> Step:
    """Return the step that `event` makes from `state`.

    Raises:
        NotPossibleError: the pair is not in the table; the message says so in words.
    """
    step = TRANSITIONS.get((state, event))
    if step is None:
        raise NotPossibleError(f"a {state} run cannot {event}")
    return step
