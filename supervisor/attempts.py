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
from stoker.recovery.adjust import eased_from, lr_factor
from stoker.recovery.policy import load_policies
from stoker.recovery.rules import load_rules
from stoker.supervisor import child, lease
from stoker.supervisor.context import Context
from stoker.supervisor.examine import Case, Outcome, examine
from stoker.supervisor.failpoints import hit
from stoker.supervisor.host.exits import ExitWatch
from stoker.supervisor.host.inhibit import start_inhibitor
from stoker.supervisor.launching import Launched
from stoker.supervisor.life import change, perform
from stoker.supervisor.settling import NEWEST, history, settle
from stoker.supervisor.states import ACTIVE, Event, State

_log = structlog.get_logger("attempts")
_LEASE_PATIENCE_S = 30.0  # how long the lease may outlive the trainer before its end is examined all the same
_SWEEP_S = 5.0  # what a trainer left in its group gets this long between SIGTERM and SIGKILL
_FAILURES = 5  # so many, 1 s, 2 s, 4 s ... apart, then a person is asked


@dataclass(slots=True)
class _Live:
    """An attempt that may have a living process."""

    run_id: str
    n: int
    process: "subprocess.Popen[bytes] | None" = None  # the shim, when it is our child
    watched: int = 0  # the pid whose end wakes us; 0: the lease is polled
    started: bool = False
    alone_since: float | None = None  # since when nobody but strangers holds the lease
    examined: "Future[Outcome] | None" = None
    failures: int = 0  # times in a row that its end could not be examined or recorded
    again_at: float = 0.0  # not looked at before, after such a failure


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
        return any(not live.started or not live.watched for live in self._live.values() if live.examined is None)

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
            if self._this(live)["boot_id"] == self._ctx.boot:  # pids of another boot are strangers
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
        """Look at every attempt once: started, ended, examined. A fault in one does not touch the others."""
        for run_id in self._watch.poll():
            if run_id in self._live:
                self._live[run_id].watched = 0
        for live in list(self._live.values()):
            if live.again_at > self._ctx.clock.continuous():
                continue
            try:
                self._poll(live)
            except Exception as error:  # noqa: BLE001 - logged; one run's trouble must not stop the others
                _log.exception("attempt_failed", run=live.run_id, attempt=live.n)
                self._failed(live, error)
        self._children = [process for process in self._children if process.poll() is None]

    def _poll(self, live: _Live) -> None:
        if live.examined is not None:
            if live.examined.done():
                self._settle(live, live.examined)
            return
        if live.process is not None:
            live.process.poll()
        paths = self._ctx.home.run(live.run_id)
        run = self._ctx.store.run(live.run_id)
        if not paths.attempt(live.n).exit.exists():
            if run["state"] == State.STARTING:
                self._started(live)
            else:
                live.started = True
            if live.watched:
                return
        if lease.held(paths.lease):
            self._attach(live)  # the shim is gone and its trainer lives, or it has not said who it is yet
            if live.watched or not self._over(live):
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

    def _over(self, live: _Live) -> bool:
        """Whether the attempt counts as ended although somebody whom the trainer started still holds the lease.

        What stayed in its group is ended (the shim does the same, where it still lives). A stray in a session of its own
        keeps the lease: the attempt's end is examined all the same, and only another launch has to wait for a person.
        """
        attempt = self._ctx.home.run(live.run_id).attempt(live.n)
        processes = child.find(attempt)
        known = processes is not None and processes.trainer_pid
        if not attempt.exit.exists() and not known:
            return False  # a shim that has not said yet whom it started
        now = self._ctx.clock.continuous()
        if live.alone_since is None:
            live.alone_since = now
            child.sweep(attempt, signal.SIGTERM)
        elif now - live.alone_since >= _SWEEP_S:
            child.sweep(attempt, signal.SIGKILL)
        return now - live.alone_since >= _LEASE_PATIENCE_S

    def _examine(self, live: _Live, run: sqlite3.Row) -> None:
        live.examined = self._pool.submit(examine, self._case(live, run), self._ctx.verified)
        live.examined.add_done_callback(lambda _: self._wake())

    def _this(self, live: _Live) -> sqlite3.Row:
        return next(row for row in self._ctx.store.attempts(live.run_id) if row["n"] == live.n)

    def _failed(self, live: _Live, error: Exception) -> None:
        """Try again later: the disk may be full, the database busy; what stays wrong is held for a person."""
        live.examined = None
        live.failures += 1
        live.again_at = self._ctx.clock.continuous() + 2.0 ** (live.failures - 1)
        cured_by_time = isinstance(error, OSError | sqlite3.Error) and live.failures < _FAILURES
        if cured_by_time or live.watched:  # a living trainer is never forgotten
            return
        with self._ctx.store.transaction():
            self._ctx.store.update_attempt(live.run_id, live.n, ended_at=self._ctx.clock.wall(), cause="unknown")
            effects = change(
                self._ctx,
                live.run_id,
                Event.HOLD,
                f"attempt {live.n} ended and its end could not be examined ({error}); then: stoker resume {live.run_id}",
                release="person",
                desired=None,
                next=json.dumps({"target": NEWEST, "mode": "exact"}),
            )
        del self._live[live.run_id]
        perform(self._ctx, live.run_id, effects)

    def _case(self, live: _Live, run: sqlite3.Row) -> Case:
        job = json.loads(run["job"])
        attempts, this = self._ctx.store.attempts(live.run_id), self._this(live)
        paths = self._ctx.home.run(live.run_id)
        adjustments = [a for a in json.loads(run["adjustments"]) if a["attempt"] <= live.n]
        starts = {a["n"]: a["from_iteration"] for a in attempts}
        row = trainer_rows()[run["trainer"]]
        recovery = job["stoker"]["recovery"]
        return Case(
            paths=paths,
            n=live.n,
            from_iteration=this["from_iteration"],
            config={**job["config"], **{a["field"]: a["to"] for a in adjustments if a["field"] in job["config"]}},
            iters=run["iters"],
            trainer=row,
            capabilities=capabilities(row, tuple(job["stoker"].get("command") or ())),
            history=history(self._ctx, live.run_id, live.n),
            starts=starts,
            micro_batch=next((a["to"] for a in reversed(adjustments) if a["field"] == "micro_batch"), None),
            lr_factor=lr_factor(adjustments),
            eased_from=eased_from(adjustments, starts, int(job["config"].get("grad_accumulation_steps") or 1)),
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

    def _settle(self, live: _Live, examined: "Future[Outcome]") -> None:
        outcome = examined.result()
        hit("daemon.settle.before")
        effects = settle(self._ctx, live.run_id, outcome)
        hit("daemon.settle.after")
        del self._live[live.run_id]
        perform(self._ctx, live.run_id, effects)


def _path(value: Any) -> Path | None:
    return Path(value) if value else None
