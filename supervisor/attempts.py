"""The living attempts: watch them, stop them, learn how they ended. One trainer per run, adopted or our own."""

import json
import random
import signal
import sqlite3
import subprocess
from collections.abc import Callable
from concurrent.futures import Executor, Future
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import structlog

from stoker.profiles.trainer_rows import capabilities, trainer_rows
from stoker.recovery.policy import load_policies
from stoker.recovery.rules import load_rules
from stoker.supervisor import child, lease
from stoker.supervisor.context import Context
from stoker.supervisor.examine import Case, Outcome, examine
from stoker.supervisor.host.exits import ExitWatch
from stoker.supervisor.host.inhibit import start_inhibitor
from stoker.supervisor.launching import Launched
from stoker.supervisor.life import change, perform
from stoker.supervisor.settling import history, settle
from stoker.supervisor.states import ACTIVE, Event, State

_log = structlog.get_logger("attempts")
_LEASE_PATIENCE_S = 30.0  # how long the lease may outlive exit.json before a person is told who holds it


@dataclass(slots=True)
class _Live:
    """An attempt that may have a living process."""

    run_id: str
    n: int
    process: "subprocess.Popen[bytes] | None" = None  # the shim, when it is our child
    watched: int = 0  # the pid whose end wakes us; 0: the lease is polled
    started: bool = False
    exit_seen_at: float | None = None
    examined: "Future[Outcome] | None" = None


class Attempts:
    """All attempts that are not settled yet."""

    def __init__(self, ctx: Context, pool: Executor, watch: ExitWatch[str], wake: Callable[[], None]) -> None:
        self._ctx = ctx
        self._wake = wake
        self._pool = pool
        self._watch = watch
        self._live: dict[str, _Live] = {}
        self._children: list[subprocess.Popen[bytes]] = []

    def __len__(self) -> int:
        return len(self._live)

    @property
    def impatient(self) -> bool:
        """Whether something has to be looked at soon that cannot wake us: a start, a lease without a pid."""
        return any(not live.started or not live.watched for live in self._live.values())

    def add(self, launched: Launched) -> None:
        """Watch an attempt that was just launched."""
        live = _Live(launched.run_id, launched.n, process=launched.process, watched=launched.process.pid)
        self._live[launched.run_id] = live
        self._watch.add(launched.process.pid, launched.run_id)

    def adopt(self) -> None:
        """Find every attempt that the store calls alive; called once, before anything is started (DESIGN 10)."""
        for run in self._ctx.store.runs_in(*ACTIVE):
            live = _Live(run["run_id"], run["attempt"])
            self._live[live.run_id] = live
            self._attach(live)
            _log.info("adopted", run=live.run_id, attempt=live.n, watched=live.watched)

    def _attach(self, live: _Live) -> None:
        processes = child.find(self._ctx.home.run(live.run_id).attempt(live.n))
        if processes is None:
            return
        pid, token = processes.survivor
        if pid and self._watch.add(pid, live.run_id, started=token):
            live.watched = pid

    def poll(self) -> None:
        """Look at every attempt once: started, ended, examined."""
        for run_id in self._watch.poll():
            if run_id in self._live:
                self._live[run_id].watched = 0
        for live in list(self._live.values()):
            self._poll(live)
        self._children = [process for process in self._children if process.poll() is None]

    def _poll(self, live: _Live) -> None:
        if live.examined is not None:
            if live.examined.done():
                self._settle(live)
            return
        if live.process is not None:
            live.process.poll()
        paths = self._ctx.home.run(live.run_id)
        run = self._ctx.store.run(live.run_id)
        exited = paths.attempt(live.n).exit.exists()
        if not exited:
            if run["state"] == State.STARTING:
                self._started(live)
            else:
                live.started = True
            if live.watched:
                return
            if lease.held(paths.lease):
                self._attach(live)  # the shim is gone and its trainer lives, or it has not said who it is yet
                return
            exited = paths.attempt(live.n).exit.exists()  # written between the two looks
        elif lease.held(paths.lease):
            self._outlived(live)
            return
        self._examine(live, run)

    def _started(self, live: _Live) -> None:
        processes = child.find(self._ctx.home.run(live.run_id).attempt(live.n))
        if processes is not None and processes.trainer_pid:
            change(self._ctx, live.run_id, Event.STARTED, f"attempt {live.n} runs")
            live.started = True
            inhibitor = start_inhibitor(processes.trainer_pid)
            if inhibitor is not None:
                self._children.append(inhibitor)

    def _outlived(self, live: _Live) -> None:
        """The trainer has ended but somebody it started still holds the lease."""
        now = self._ctx.clock.continuous()
        live.exit_seen_at = live.exit_seen_at or now
        if now - live.exit_seen_at >= _LEASE_PATIENCE_S:
            reason = (f"the trainer of attempt {live.n} has ended but a process that it started still holds the run; "
                      f"end that process, or: stoker resume {live.run_id} --force")  # fmt: skip
            with self._ctx.store.transaction():
                self._ctx.store.update_attempt(live.run_id, live.n, ended_at=self._ctx.clock.wall(), cause="unknown")
                onward = json.dumps({"target": 1 << 53, "mode": "exact"})
                effects = change(self._ctx, live.run_id, Event.HOLD, reason, release="person", next=onward)
            perform(self._ctx, live.run_id, effects)
            del self._live[live.run_id]

    def _examine(self, live: _Live, run: sqlite3.Row) -> None:
        live.exit_seen_at = self._ctx.clock.continuous()
        live.examined = self._pool.submit(examine, self._case(live, run), self._ctx.verified)
        live.examined.add_done_callback(lambda _: self._wake())

    def _case(self, live: _Live, run: sqlite3.Row) -> Case:
        job = json.loads(run["job"])
        attempts = self._ctx.store.attempts(live.run_id)
        this = next(row for row in attempts if row["n"] == live.n)
        paths = self._ctx.home.run(live.run_id)
        adjustments = [a for a in json.loads(run["adjustments"]) if a["attempt"] <= live.n]
        row = trainer_rows()[run["trainer"]]
        recovery = job["stoker"]["recovery"]
        factor = 1.0
        for adjustment in adjustments:
            if adjustment["field"] == "learning_rate":
                factor *= float(adjustment["launch"]["factor"])
        return Case(
            paths=paths,
            n=live.n,
            from_iteration=this["from_iteration"],
            config={**job["config"], **{a["field"]: a["to"] for a in adjustments if a["field"] in job["config"]}},
            iters=run["iters"],
            trainer=row,
            capabilities=capabilities(row, tuple(job["stoker"].get("command") or ())),
            history=history(self._ctx, live.run_id, live.n),
            starts={a["n"]: a["from_iteration"] for a in attempts},
            micro_batch=next((a["to"] for a in reversed(adjustments) if a["field"] == "micro_batch"), None),
            lr_factor=factor,
            lossy=recovery["lossy"],
            start_over=recovery["start_over"],
            stop=run["desired"],
            host=("rebooted",) if this["boot_id"] != self._ctx.boot else (),
            trained_s=sum(a["train_s"] or 0.0 for a in attempts if a["n"] < live.n),
            launched=paths.attempt(live.n).run.exists(),
            rules=load_rules(extra=_path(recovery.get("rules"))),
            policies=load_policies(_path(recovery.get("policies"))),
            jitter=random.random(),  # noqa: S311 - spreads retries, guards nothing
        )

    def _settle(self, live: _Live) -> None:
        assert live.examined is not None
        del self._live[live.run_id]
        settle(self._ctx, live.run_id, live.examined.result())

    def terminate(self, run_id: str, grace_s: float) -> None:
        """Begin the stop ladder: SIGTERM now, SIGKILL after the grace. Its deadline is a row: a new daemon goes on."""
        run = self._ctx.store.run(run_id)
        paths = self._ctx.home.run(run_id).attempt(run["attempt"])
        now = self._ctx.clock.continuous()
        with self._ctx.store.transaction():
            self._ctx.store.update_attempt(
                run_id, run["attempt"], stop_asked_at=now, stop_kill_at=now + grace_s, stop_stage="term"
            )
            self._ctx.store.event(
                run_id, "stopping", f"SIGTERM to attempt {run['attempt']}, SIGKILL in {grace_s:.0f} s"
            )
        child.signal_attempt(paths, signal.SIGTERM)

    def climb(self) -> float | None:
        """Take the next rung of every stop ladder that is due; return the seconds until the next one."""
        now, soonest = self._ctx.clock.continuous(), None
        rows = self._ctx.store.db.execute(
            "SELECT a.run_id, a.n, a.stop_kill_at, a.stop_asked_at FROM attempts a JOIN runs r ON r.run_id = a.run_id "
            "AND r.attempt = a.n WHERE a.stop_stage = 'term' AND r.state = 'stopping'"
        ).fetchall()
        for row in rows:
            # A clock that starts again with a boot can only make the deadline come sooner, never lose it.
            left = row["stop_kill_at"] - now
            if 0 < left <= row["stop_kill_at"] - row["stop_asked_at"]:
                soonest = left if soonest is None else min(soonest, left)
                continue
            with self._ctx.store.transaction():
                self._ctx.store.update_attempt(row["run_id"], row["n"], stop_stage="kill")
                self._ctx.store.event(row["run_id"], "killed", f"attempt {row['n']} did not end in time: SIGKILL")
            child.signal_attempt(self._ctx.home.run(row["run_id"]).attempt(row["n"]), signal.SIGKILL)
        return soonest


def _path(value: Any) -> Path | None:
    return Path(value) if value else None
