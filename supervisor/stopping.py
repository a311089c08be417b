"""The stop ladder: SIGTERM, a grace, SIGKILL. Its rungs are rows, so a new daemon climbs on where the last one died.

A rung is taken only when its signal reached somebody: a trainer that has just been launched and is not known by pid yet
gets its SIGTERM as soon as it is.
"""

import signal
import sqlite3
from enum import StrEnum

from stoker.supervisor import child
from stoker.supervisor.context import Context

_AGAIN_S = 5.0  # a SIGKILL that a dying shim did not pass on is repeated
_SOON_S = 0.1  # nobody to signal yet


class Stage(StrEnum):
    """The rung that was taken last; `attempts.stop_stage`."""

    ASKED = "asked"
    TERM = "term"
    KILL = "kill"


def ask(ctx: Context, run_id: str, n: int, grace_s: float) -> None:
    """Put up the ladder, inside the transaction that makes the run `stopping`; asked twice, the first deadline stands."""
    attempt = next(row for row in ctx.store.attempts(run_id) if row["n"] == n)
    if attempt["stop_stage"] is not None:
        return
    now = ctx.clock.continuous()
    ctx.store.update_attempt(run_id, n, stop_asked_at=now, stop_kill_at=now + grace_s, stop_stage=Stage.ASKED)
    ctx.store.event(run_id, "stopping", f"SIGTERM to attempt {n}, SIGKILL in {grace_s:g} s")


def climb(ctx: Context) -> float | None:
    """Take the next rung of every ladder that is due; return the seconds until the next look."""
    rows = ctx.store.db.execute(
        "SELECT a.run_id, a.n, a.stop_kill_at, a.stop_asked_at, a.stop_stage FROM attempts a JOIN runs r "
        "ON r.run_id = a.run_id AND r.attempt = a.n WHERE a.stop_stage IS NOT NULL AND r.state = 'stopping'"
    ).fetchall()
    return min((_rung(ctx, row) for row in rows), default=None)


def _rung(ctx: Context, row: sqlite3.Row) -> float:
    paths, stage = ctx.home.run(row["run_id"]).attempt(row["n"]), row["stop_stage"]
    if stage == Stage.ASKED and child.signal_attempt(paths, signal.SIGTERM):
        with ctx.store.transaction():
            ctx.store.update_attempt(row["run_id"], row["n"], stop_stage=Stage.TERM)
        stage = Stage.TERM
    now = ctx.clock.continuous()
    left = float(row["stop_kill_at"] - now)
    # A clock that starts again with a boot can only make the deadline come sooner, never lose it.
    if 0 < left <= row["stop_kill_at"] - row["stop_asked_at"]:
        return min(left, _SOON_S) if stage == Stage.ASKED else left
    if not child.signal_attempt(paths, signal.SIGKILL):
        return _SOON_S
    with ctx.store.transaction():
        ctx.store.update_attempt(
            row["run_id"], row["n"], stop_stage=Stage.KILL, stop_asked_at=now, stop_kill_at=now + _AGAIN_S
        )
        if stage != Stage.KILL:
            ctx.store.event(row["run_id"], "killed", f"attempt {row['n']} did not end in time: SIGKILL")
    return _AGAIN_S
