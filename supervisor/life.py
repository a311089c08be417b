"""Moving a run from state to state: the table decides, the store remembers, the effects are performed."""

import json
import sqlite3
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import structlog

from stoker.supervisor.context import Context
from stoker.supervisor.records import append, record
from stoker.supervisor.states import ENDED, Effect, Event, State, advance
from stoker.supervisor.store.ettr import ettr

_log = structlog.get_logger("runs")


def change(ctx: Context, run_id: str, event: Event, reason: str, **columns: Any) -> tuple[Effect, ...]:
    """Make one step of a run, durably, and return what has to be done because of it.

    To be called inside a transaction when other rows change with it; otherwise it makes its own.

    Raises:
        NotPossibleError: the run's state does not allow it.
    """
    if not ctx.store.db.in_transaction:
        with ctx.store.transaction():
            return change(ctx, run_id, event, reason, **columns)
    run = ctx.store.run(run_id)
    step = advance(State(run["state"]), event)
    if step.state in ENDED:
        columns = {"ended_at": ctx.clock.wall(), "desired": None, "recorded": 0, **columns}
    ctx.store.update_run(run_id, state=step.state, reason=reason, **columns)
    ctx.store.event(run_id, str(event), reason, state=str(step.state))
    _log.info(str(event), run=run_id, state=str(step.state), reason=reason)
    return step.effects


def perform(ctx: Context, run_id: str, effects: tuple[Effect, ...]) -> None:
    """Perform the effects that belong to a run's end: its record and the hook. The others are the attempts' business."""
    run = ctx.store.run(run_id)
    if Effect.RECORD in effects:
        write_record(ctx, run)
    if Effect.NOTIFY in effects:
        notify(ctx, run)


def write_record(ctx: Context, run: sqlite3.Row) -> None:
    """Append the run's line to training_runs.jsonl; a full disk leaves it for the next start."""
    job = json.loads(run["job"])
    attempts = [dict(row) for row in ctx.store.attempts(run["run_id"])]
    line = record(dict(run), job["config"], hardware=ctx.host, ettr=ettr(dict(run), attempts, ctx.clock.wall()))
    try:
        append([ctx.home.records, *_more(ctx.settings.records)], line)
    except OSError as error:
        _log.warning("record_not_written", run=run["run_id"], error=str(error))
        return
    with ctx.store.transaction():
        ctx.store.update_run(run["run_id"], recorded=1)


def _more(path: Path | None) -> list[Path]:
    return [path.expanduser()] if path else []


def notify(ctx: Context, run: sqlite3.Row) -> None:
    """Run the hook command of the job, else of the settings."""
    job = json.loads(run["job"])
    own = (job["stoker"].get("notify") or {}).get("command")
    command = own or ctx.settings.notify.command
    if not command:
        return
    event: Mapping[str, Any] = {
        "run_id": run["run_id"],
        "name": run["name"],
        "state": run["state"],
        "reason": run["reason"],
        "attempt": run["attempt"],
        "iteration": run["iteration"],
        "iters": run["iters"],
        "loss": run["loss"],
    }
    ctx.hooks.run(command, event, ctx.clock.continuous())


def catch_up(ctx: Context) -> None:
    """Write the records that a crash or a full disk prevented."""
    for run in ctx.store.runs_in(*ENDED):
        if not run["recorded"]:
            write_record(ctx, run)
