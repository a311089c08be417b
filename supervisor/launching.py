"""Start an attempt: lease, files, row, shim - in this order, so that no crash can start a second trainer."""

import errno
import json
import os
import sqlite3
import subprocess
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import structlog

from stoker.profiles.trainer_rows import trainer_rows
from stoker.recovery.checkpoint.choose import Choice
from stoker.recovery.checkpoint.room import pause_s
from stoker.recovery.failures import Spell, time_between_failures
from stoker.recovery.policy import load_policies
from stoker.supervisor import child, lease
from stoker.supervisor.context import Context
from stoker.supervisor.failpoints import hit
from stoker.supervisor.jobs import frozen_env
from stoker.supervisor.keeping import move_aside, quarantine, supersede
from stoker.supervisor.life import change, perform
from stoker.supervisor.prepare import Bounds, Prepared, Request, prepare
from stoker.supervisor.room import make_room, words
from stoker.supervisor.states import Event

_log = structlog.get_logger("attempts")
_RECENT = 200  # attempts, of all runs, that tell how often training fails here


@dataclass(frozen=True, slots=True)
class Launched:
    """A shim that was just started."""

    run_id: str
    n: int
    process: "subprocess.Popen[bytes]"


def request(ctx: Context, run: sqlite3.Row) -> Request:
    """Return what the run's next attempt is prepared from."""
    attempts = ctx.store.attempts(run["run_id"])
    return Request(
        home=ctx.home,
        run_id=run["run_id"],
        n=run["attempt"] + 1,
        job=json.loads(run["job"]),
        env=frozen_env(ctx.home.run(run["run_id"]).job),
        settings_env=ctx.settings.env,
        adjustments=tuple(json.loads(run["adjustments"])),
        next=json.loads(run["next"]) if run["next"] else None,
        starts={row["n"]: row["from_iteration"] for row in attempts},
        jit=jit_number(ctx),
        bounds=Bounds(
            write_per_s=ctx.settings.write_per_s,
            min_free=ctx.settings.min_free_bytes,
            suspect=_suspect(attempts),
            mtbf_s=time_between_failures(map(_spell, ctx.store.recent_attempts(_RECENT))),
        ),
    )


def _suspect(attempts: list[sqlite3.Row]) -> int | None:
    """Return where trouble was suspected last: checkpoints from before it are what a rewind would need."""
    onsets = (json.loads(row["diagnosis"])["onset"] for row in reversed(attempts) if row["diagnosis"])
    return next((onset for onset in onsets if onset is not None), None)


def _spell(row: sqlite3.Row) -> Spell:
    diagnosis = json.loads(row["diagnosis"]) if row["diagnosis"] else {}
    iterations = (row["to_iteration"] or 0) - row["from_iteration"]
    return Spell(row["train_s"] or 0.0, iterations, diagnosis.get("cause"), bool(diagnosis.get("simulated")))


def jit_number(ctx: Context) -> int:
    """Return the number of the kernel cache in use (1, 2 ...); see `spoil_jit`."""
    row = ctx.store.db.execute("SELECT value FROM meta WHERE key = 'jit'").fetchone()
    return int(row["value"]) if row else 1


def spoil_jit(ctx: Context, used: int) -> None:
    """Stop using a kernel cache; inside a transaction.

    One truncated kernel in the cache of mlx's CPU backend makes every later start die with SIGBUS and no text, so a
    trainer that dies of a signal while it compiles takes its cache with it.
    """
    if jit_number(ctx) == used:
        ctx.store.db.execute("INSERT OR REPLACE INTO meta VALUES ('jit', ?)", (str(used + 1),))


def launch(ctx: Context, run: sqlite3.Row, wanted: Request, choice: Choice) -> Launched | None:
    """Start the run's next attempt; None when it has to be held instead (the reason is recorded)."""
    run_id, paths = wanted.run_id, ctx.home.run(wanted.run_id)
    moved = quarantine(paths, choice.rejected)
    if not _may_go_on(ctx, run, wanted, choice):
        return None
    fd = lease.acquire(paths.lease)
    if fd is None:
        _hold(ctx, run_id, f"a process still holds the lease of this run ({_holders(paths.lease)}); "
              f"end it, or: stoker resume {run_id} --force")  # fmt: skip
        return None
    hit("daemon.launch.leased")
    try:
        try:
            prepared = prepare(wanted, choice)
            aside = _make_way(ctx, run, wanted)
        except OSError as error:
            room = error.errno in {errno.ENOSPC, errno.EDQUOT}
            _hold(ctx, run_id, f"cannot prepare attempt {wanted.n}: {error}", release="disk" if room else "person")
            return None
        _record(ctx, run, prepared, moved, aside)
        hit("daemon.launch.recorded")
        starts = {**wanted.starts, wanted.n: prepared.from_iteration}
        adapter = wanted.job["config"].get("adapter_path")
        supersede(paths, starts, Path(adapter) if adapter else None)
        try:
            process = child.start(paths.attempt(wanted.n), fd, prepared.environment)
        except OSError as error:
            perform(ctx, run_id, change(ctx, run_id, Event.FAIL, f"cannot start attempt {wanted.n}: {error}"))
            return None
        hit("daemon.launch.spawned")
    finally:
        os.close(fd)
    _log.info("launched", run=run_id, attempt=wanted.n, shim=process.pid, checkpoint=_name(prepared))
    return Launched(run_id, wanted.n, process)


def _may_go_on(ctx: Context, run: sqlite3.Row, wanted: Request, choice: Choice) -> bool:
    """Check room on the disk, and that falling back to iteration 0 is allowed when every checkpoint has gone bad."""
    room = make_room(ctx, run)
    if not room.enough:
        _hold(ctx, wanted.run_id, f"{words(room)}; goes on by itself when there is room", release="disk")
        return False
    target = int((wanted.next or {}).get("target") or 0)
    if target <= 0 or choice.chosen is not None or (wanted.next or {}).get("start_over"):
        return True
    recovery = wanted.job["stoker"]["recovery"]
    own = Path(recovery["policies"]) if recovery.get("policies") else None
    free_s = load_policies(own).general.restart_free_seconds
    lost = sum(row["train_s"] or 0.0 for row in ctx.store.attempts(wanted.run_id))
    if recovery["start_over"] == "allow" or (recovery["start_over"] == "ask" and lost < free_s):
        return True
    _hold(ctx, wanted.run_id, f"no good checkpoint is left and {lost / 60:.0f} min of training would be lost by "
          f"starting over; to do so: stoker resume {run['run_id']}", start_over=True)  # fmt: skip
    return False


def _make_way(ctx: Context, run: sqlite3.Row, wanted: Request) -> Path | None:
    """Before the first attempt, move adapter files that are there already to previous-TIME/; return that folder.

    It comes before the attempt's row: after a crash in between it is done again, and finds nothing.
    """
    adapter = wanted.job["config"].get("adapter_path")
    if wanted.n > 1 or not adapter or trainer_rows()[run["trainer"]].interpreter is None:
        return None
    stamp = datetime.fromtimestamp(ctx.clock.wall()).astimezone().strftime("%Y%m%d_%H%M%S")
    return move_aside(Path(adapter), stamp)


def _record(ctx: Context, run: sqlite3.Row, prepared: Prepared, moved: list[str], aside: Path | None) -> None:
    wanted, now = prepared.request, ctx.clock.wall()
    with ctx.store.transaction():
        if aside is not None:
            ctx.store.event(wanted.run_id, "moved_aside", f"adapter files of before this run were moved to {aside}")
        if moved:
            ctx.store.event(wanted.run_id, "quarantined", f"bad checkpoints moved to quarantine: {', '.join(moved)}")
        previous = ctx.store.db.execute(
            "SELECT to_iteration FROM attempts WHERE run_id = ? AND n = ?", (wanted.run_id, wanted.n - 1)
        ).fetchone()
        if previous is not None and previous["to_iteration"] is not None:
            lost = max(0, previous["to_iteration"] - prepared.from_iteration)
            ctx.store.update_attempt(wanted.run_id, wanted.n - 1, lost_iterations=lost)
        ctx.store.insert_attempt(
            run_id=wanted.run_id,
            n=wanted.n,
            started_at=now,
            boot_id=ctx.boot,
            from_iteration=prepared.from_iteration,
            resume=prepared.resume,
            checkpoint=_name(prepared),
            choice=json.dumps(choice_record(prepared.choice)),
            jit=wanted.jit,
        )
        where = f"from {_name(prepared)}" if prepared.checkpoint else "from iteration 0"
        change(
            ctx,
            wanted.run_id,
            Event.PICK,
            f"attempt {wanted.n} starts {where}",
            attempt=wanted.n,
            iteration=prepared.from_iteration,
            started_at=run["started_at"] or now,
            desired=None,
            wake_at=None,
            release=None,
            resuming=1,
        )


def choice_record(choice: Choice) -> dict[str, Any]:
    """Return a choice as it is stored and shown."""
    return {
        "chosen": choice.chosen.name if choice.chosen else None,
        "rejected": [{"name": c.name, "problems": list(problems)} for c, problems in choice.rejected],
    }


def _name(prepared: Prepared) -> str | None:
    return prepared.checkpoint.name if prepared.checkpoint else None


def _hold(ctx: Context, run_id: str, reason: str, release: str = "person", *, start_over: bool = False) -> None:
    columns: dict[str, Any] = {"release": release}
    if release == "disk":  # looked at again after a pause: a quota can be full on a disk that is not
        columns["wake_at"] = ctx.clock.wall() + pause_s(ctx.store.holds_since_start(run_id))
    if start_over:
        columns["next"] = json.dumps({"target": 0, "start_over": True})
    perform(ctx, run_id, change(ctx, run_id, Event.HOLD, reason, **columns))


def _holders(path: Path) -> str:
    """Name the processes that have the lease open, where the system tells."""
    import psutil

    names = []
    for process in psutil.process_iter():
        try:
            if any(file.path == str(path) for file in process.open_files()):
                names.append(f"{process.name()} {process.pid}")
        except (psutil.Error, OSError):
            continue
    return ", ".join(names) or "its name is not known"
