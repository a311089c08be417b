"""What runs next: higher priority first, resuming before new, then first come; `needs` before anything."""

import json
import sqlite3

from stoker.supervisor.checks import in_bytes
from stoker.supervisor.context import Context
from stoker.supervisor.jobs import newest
from stoker.supervisor.life import change
from stoker.supervisor.room import measure
from stoker.supervisor.states import Event, State


def unmet(ctx: Context, run: sqlite3.Row) -> str | None:
    """Return why the run has to wait for another one; None when it need not."""
    for name in json.loads(run["job"])["stoker"]["needs"]:
        row = newest(ctx.store, name, besides=run["run_id"])
        if row is None:
            return f"needs {name}, and there is no such run"
        if row["state"] != State.COMPLETED:
            return f"needs {row['run_id']}, which is {row['state']}"
    return None


def sort_needs(ctx: Context) -> None:
    """Block and unblock runs by what they need."""
    for run in ctx.store.runs_in(State.QUEUED, State.BLOCKED):
        reason = unmet(ctx, run)
        if reason is not None and run["state"] == State.QUEUED:
            change(ctx, run["run_id"], Event.BLOCK, reason)
        elif reason is None and run["state"] == State.BLOCKED:
            change(ctx, run["run_id"], Event.UNBLOCK, "what it needs has completed")
        elif reason is not None and reason != run["reason"]:  # what it needs has failed, or is another run by now
            with ctx.store.transaction():
                ctx.store.update_run(run["run_id"], reason=reason)


def wake(ctx: Context) -> float | None:
    """Queue runs whose wait is over or whose hold has ended by itself; return the seconds until the next one."""
    now, soonest = ctx.clock.wall(), None
    for run in ctx.store.runs_in(State.WAITING):
        left = (run["wake_at"] or now) - now
        if left <= 0:
            change(ctx, run["run_id"], Event.WAKE, "the wait is over", wake_at=None)
        else:
            soonest = left if soonest is None else min(soonest, left)
    for run in ctx.store.runs_in(State.HELD):
        if run["release"] != "disk" or (run["wake_at"] or 0) > now:
            continue
        room = measure(ctx, run)
        if room.returned():
            reason = f"there is room again: {in_bytes(room.free)} free"
            change(ctx, run["run_id"], Event.RESUME, reason, release=None, wake_at=None)
    return soonest
