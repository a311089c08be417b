"""The daemon: one loop over a list of named steps.

    finish claims → answer commands → take dropped files → look at the attempts → climb stop ladders →
    wake waiting and held runs → sort out needs → start what fits the slots → reap hooks → tell the service manager

Each step reads the store or the disk and changes state only through `life.change`. A fault in one run's step is logged
and never ends the loop. Between rounds the daemon sleeps until something happens.
"""

import json
import os
import platform
import sqlite3
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from pathlib import Path

import structlog
import tenacity

from stoker.recovery.checkpoint.choose import Choice
from stoker.supervisor import inbox, jobs, schedule, stopping
from stoker.supervisor.attempts import Attempts
from stoker.supervisor.clock import Clock
from stoker.supervisor.commands import Commands
from stoker.supervisor.context import Context
from stoker.supervisor.host.boot import boot_id
from stoker.supervisor.host.exits import ExitWatch
from stoker.supervisor.host.notify import Notifier
from stoker.supervisor.instance import Instance
from stoker.supervisor.launching import launch, request
from stoker.supervisor.life import catch_up, change, perform
from stoker.supervisor.paths import Home, RunPaths
from stoker.supervisor.prepare import Request, select
from stoker.supervisor.settings import Settings
from stoker.supervisor.states import ACTIVE, Event, State
from stoker.supervisor.store.write import Store
from stoker.supervisor.waker import Waker

_log = structlog.get_logger("daemon")

_IDLE_S = 2.0  # rescan of the inbox: file events can be lost, the scan is the truth
_SOON_S = 0.1  # something is on its way that cannot wake us
_WORKERS = 2  # verification and diagnosis, beside the loop

_patient = tenacity.retry(  # a busy database is waited for; anything else is not cured by trying again
    retry=tenacity.retry_if_exception_type(sqlite3.OperationalError),
    wait=tenacity.wait_exponential(multiplier=0.05, max=1.0),
    stop=tenacity.stop_after_attempt(5),
    reraise=True,
)


class Daemon:
    """Serves one home.

    Args:
        home: the home folder; made when it is not there.
        settings: of the daemon.
        clock: the clocks.
        drain: end when no run is queued or active.
    """

    def __init__(self, home: Home, settings: Settings, clock: Clock, *, drain: bool = False) -> None:
        self._instance = Instance(home.lock)
        self._drain = drain
        self._ctx = Context(home, settings, clock, Store(home, clock), boot_id(), platform.node() or "unknown")
        self._notifier = Notifier.from_environment()
        self._exits: ExitWatch[str] = ExitWatch()
        self._pool = ThreadPoolExecutor(_WORKERS, thread_name_prefix="examine")
        folders = inbox.folders(home.inbox, settings.inbox)
        self._inbox = inbox.Inbox(folders, clock)
        home.wake.touch(mode=0o600)
        self._waker = Waker(self._exits, folders, home.wake)
        self._attempts = Attempts(self._ctx, self._pool, self._exits, self._waker.wake)
        self._commands = Commands(self._ctx)
        self._claims_open = True  # run folders without a row may be there
        self._choosing: dict[str, tuple[Request, Future[Choice]]] = {}
        self._next_wake_s = 0.0
        self._steps: tuple[Callable[[], None], ...] = (
            self._recover_claims,
            self._answer_commands,
            self._take_drops,
            self._attempts.poll,
            self._climb,
            self._wake_runs,
            self._sort_needs,
            self._start_runs,
            self._reap,
            self._tell,
        )

    def run(self) -> None:
        """Serve until asked to stop, or, draining, until nothing is left to do. Trainers live on."""
        self._waker.listen()
        self._attempts.adopt()
        self._guarded("catch_up", lambda: catch_up(self._ctx))
        self._notifier.ready("ready")
        _log.info("ready", home=str(self._ctx.home.dir), pid=os.getpid(), adopted=len(self._attempts))
        try:
            while not self._waker.stop_asked:
                self._round()
                if self._drain and self._drained():
                    break
                self._waker.wait(self._next_wake_s)
        finally:
            self._close()

    def _round(self) -> None:
        self._next_wake_s = _IDLE_S
        if self._notifier.watchdog_interval_s:
            self._sooner(self._notifier.watchdog_interval_s)
        for step in self._steps:
            self._guarded(step.__name__, step)
        self._sooner(self._inbox.due_s())
        if self._attempts.impatient:
            self._sooner(_SOON_S)

    def _guarded(self, what: str, step: Callable[[], None]) -> bool:
        """Perform a step; its failure is logged and disturbs nothing else (the next round tries again)."""
        try:
            step()
        except Exception:  # noqa: BLE001 - logged; the daemon outlives whatever one step meets
            _log.exception("step_failed", step=what)
            return False
        return True

    def _sooner(self, seconds: float | None) -> None:
        if seconds is not None:
            self._next_wake_s = min(self._next_wake_s, seconds)

    def _recover_claims(self) -> None:
        """Admit what a crash, or a full disk, left claimed without a row."""
        if not self._claims_open:
            return

        def lost(paths: RunPaths, verdict: jobs.Verdict) -> None:
            back = self._ctx.home.inbox / f"{paths.dir.name}.yaml"
            paths.submitted.rename(back)
            self._reject(back, verdict.as_text())

        for run_id in jobs.unfinished(self._ctx.home, self._ctx.store, lost):
            _log.info("claim_finished", run=run_id)
        self._claims_open = False

    def _answer_commands(self) -> None:
        for row in _patient(self._ctx.store.open_commands)():
            try:
                if row["verb"] == "submit":
                    self._submit(row)
                else:
                    self._commands.carry_out(row)
            except (OSError, sqlite3.OperationalError):
                # A full disk or a busy database is no answer: the command stays, the next round tries again.
                _log.exception("command_postponed", verb=row["verb"])
                self._claims_open = True
            except Exception as error:  # noqa: BLE001 - logged, and answered to the person who asked
                _log.exception("command_failed", verb=row["verb"])
                what = f"{row['verb']} failed: {error}"
                self._answer(row, {"ok": False, "error": what, "hint": f"see {self._ctx.home.log}", "exit_code": 1})

    def _answer(self, row: sqlite3.Row, answer: Mapping[str, object]) -> None:
        with self._ctx.store.transaction():
            self._ctx.store.answer(row["id"], answer)

    def _submit(self, row: sqlite3.Row) -> None:
        payload = json.loads(row["payload"])
        submission = jobs.Submission(
            data=payload["text"].encode("utf-8", "surrogateescape"),
            file=payload["file"],
            base_dir=Path(payload["base_dir"]),
            source=f"command:{row['id']}",
        )
        verdict = self._admit(submission)
        self._answer(row, {"ok": verdict.run_id is not None, **verdict.as_json()})

    def _admit(self, submission: jobs.Submission) -> jobs.Verdict:
        ctx = self._ctx
        return jobs.admit(ctx.home, ctx.store, ctx.clock, submission, min_free_gb=ctx.settings.disk.min_free)

    def _take_drops(self) -> None:
        for drop in self._inbox.scan():
            if not self._guarded(f"take {drop.path.name}", partial(self._take, drop)):
                self._claims_open = True

    def _take(self, drop: inbox.Drop) -> None:
        if drop.problem is not None:
            self._reject(drop.path, f"{drop.path.name}: {drop.problem}\n")
            self._inbox.done(drop)
            return
        submission = jobs.Submission(drop.data, drop.path.name, None, path=drop.path)
        verdict = self._admit(submission)
        if verdict.run_id is not None:
            _log.info("accepted", file=drop.path.name, run=verdict.run_id)
            self._inbox.done(drop)
        elif not self._inbox.again_later(drop):
            self._reject(drop.path, verdict.as_text())
            self._inbox.done(drop)

    def _reject(self, path: Path, answer: str) -> None:
        place = inbox.reject(path, answer)
        with self._ctx.store.transaction():
            self._ctx.store.event(None, "rejected", f"{path.name}: see {place.name}.error.txt")
        _log.info("rejected", file=path.name, answer=str(place) + ".error.txt")

    def _climb(self) -> None:
        self._sooner(stopping.climb(self._ctx))

    def _wake_runs(self) -> None:
        self._sooner(schedule.wake(self._ctx))

    def _sort_needs(self) -> None:
        schedule.sort_needs(self._ctx)

    def _start_runs(self) -> None:
        busy = len(self._ctx.store.runs_in(*ACTIVE)) + len(self._choosing)
        for run in self._ctx.store.runs_in(State.QUEUED):
            if run["run_id"] in self._choosing:
                continue
            if busy >= self._ctx.settings.slots:
                break
            busy += 1
            self._start(run["run_id"], partial(self._choose, run))
        for run_id, (wanted, choosing) in list(self._choosing.items()):
            if choosing.done():
                del self._choosing[run_id]
                self._start(run_id, partial(self._launch_chosen, wanted, choosing))
        if self._choosing:
            self._sooner(_SOON_S)

    def _start(self, run_id: str, step: Callable[[], None]) -> None:
        """Perform a step of a start; a run that cannot be started is held, so that it does not block those behind it."""
        try:
            step()
        except sqlite3.OperationalError:  # busy, or no room for a transaction: nothing has been started
            _log.exception("start_postponed", run=run_id)
        except Exception as error:  # noqa: BLE001 - logged; one run's trouble must not stop the others
            _log.exception("start_failed", run=run_id)
            if self._ctx.store.run(run_id)["state"] == State.QUEUED:
                reason = f"it cannot be started ({error}); then: stoker resume {run_id}"
                perform(self._ctx, run_id, change(self._ctx, run_id, Event.HOLD, reason, release="person"))

    def _choose(self, run: sqlite3.Row) -> None:
        """Choose the checkpoint beside the loop: hashing a large one takes seconds."""
        if schedule.unmet(self._ctx, run):  # admitted by the command line since needs were sorted
            return
        wanted = request(self._ctx, run)
        if not (wanted.next or {}).get("target"):
            self._launch(wanted, Choice(None, ()))
            return
        choosing = self._pool.submit(select, wanted, self._ctx.verified)
        choosing.add_done_callback(lambda _: self._waker.wake())
        self._choosing[wanted.run_id] = (wanted, choosing)

    def _launch_chosen(self, wanted: Request, choosing: Future[Choice]) -> None:
        self._launch(wanted, choosing.result())

    def _launch(self, wanted: Request, choice: Choice) -> None:
        run = self._ctx.store.run(wanted.run_id)
        if run["state"] != State.QUEUED or request(self._ctx, run) != wanted:  # paused, cancelled, resumed otherwise
            return
        launched = launch(self._ctx, run, wanted, choice)
        if launched is not None:
            self._attempts.add(launched)

    def _reap(self) -> None:
        self._ctx.hooks.reap(self._ctx.clock.continuous())

    def _tell(self) -> None:
        self._notifier.watchdog()
        self._notifier.status(f"{len(self._attempts)} running")

    def _drained(self) -> bool:
        pending = self._ctx.store.runs_in(State.QUEUED, State.WAITING, *ACTIVE)
        return (
            not pending
            and not self._claims_open
            and not self._ctx.store.open_commands()
            and not self._inbox.waiting
            and not self._ctx.hooks.busy
        )

    def _close(self) -> None:
        self._notifier.stopping()
        _log.info("stopping", trainers_left=len(self._attempts))
        self._pool.shutdown(wait=False, cancel_futures=True)
        self._waker.close()
        self._exits.close()
        self._ctx.store.close()
        self._instance.close()
