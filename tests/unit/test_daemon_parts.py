"""The daemon's parts by themselves: what ends an attempt, what runs next, what a drill strikes, where files are moved."""

import hashlib
import json
import os
import struct
from concurrent.futures import Future
from dataclasses import replace
from threading import Thread

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stoker.recovery.checkpoint.choose import candidates
from stoker.supervisor import attempts as attempts_module
from stoker.supervisor import lease, room, schedule, stopping
from stoker.supervisor.attempts import Attempts
from stoker.supervisor.context import Context
from stoker.supervisor.ending import Ending, judge, read_ending
from stoker.supervisor.files import sync_folder, write_json
from stoker.supervisor.host.exits import ExitWatch
from stoker.supervisor.inbox import Inbox
from stoker.supervisor.keeping import quarantine, supersede
from stoker.supervisor.life import change
from stoker.supervisor.paths import Home
from stoker.supervisor.prepare import drill_for
from stoker.supervisor.settings import DiskSettings, Settings
from stoker.supervisor.settling import history
from stoker.supervisor.states import Event, State
from stoker.supervisor.store.connect import connect
from stoker.supervisor.store.write import Store

ALL = ("exit_zero", "last_iteration", "adapter_verified", "finite", "changed")


class HandClock:
    """Clocks that are turned by hand."""

    def __init__(self):
        self.now = 1_000.0

    def wall(self):
        return self.now + 1e9

    def awake(self):
        return self.now

    def continuous(self):
        return self.now


class Now:
    """A pool that does the work at once."""

    def submit(self, function, *arguments):
        future: Future = Future()
        try:
            future.set_result(function(*arguments))
        except Exception as error:  # noqa: BLE001 - as a pool does
            future.set_exception(error)
        return future


@pytest.fixture
def clock():
    return HandClock()


@pytest.fixture
def ctx(tmp_path, clock):
    home = Home(tmp_path / "home")
    home.create()
    store = Store(home, clock)
    yield Context(home, Settings(disk=DiskSettings(min_free=10)), clock, store, "boot", "host")
    store.close()


def _admit(ctx, name, *, state=State.QUEUED, priority=0, needs=(), attempt=0, **columns):
    paths = ctx.home.run(name)
    paths.checkpoints.mkdir(parents=True)
    paths.attempts.mkdir()
    recovery = {"lossy": "allow", "start_over": "ask", "policies": None, "rules": None}
    stoker = {"needs": list(needs), "recovery": recovery, "command": ["/bin/true"]}
    ctx.store.insert_run(
        {"run_id": name, "name": name, "source": None, "state": state, "reason": "", "priority": priority,
         "trainer": "command", "job": json.dumps({"config": {}, "stoker": stoker}), "attempt": attempt, **columns}
    )  # fmt: skip
    for n in range(1, attempt + 1):
        with ctx.store.transaction():
            ctx.store.insert_attempt(
                run_id=name, n=n, started_at=ctx.clock.wall(), boot_id=ctx.boot, from_iteration=0, resume="fresh"
            )
        paths.attempt(n).dir.mkdir()
    return paths


def _state(ctx, name):
    return ctx.store.run(name)["state"]


# --- schedule


def test_the_queue_is_by_priority_then_resuming_then_first_come(ctx):
    for name, priority, resuming in (("a", 0, 0), ("b", 0, 1), ("c", 5, 0), ("d", 0, 0), ("e", 0, 1)):
        _admit(ctx, name, priority=priority, resuming=resuming)
    assert [run["run_id"] for run in ctx.store.runs_in(State.QUEUED)] == ["c", "b", "e", "a", "d"]


def test_needs_mean_the_newest_run_of_a_name_and_never_oneself(ctx):
    _admit(ctx, "base-1", state=State.COMPLETED)
    ctx.store.db.execute("UPDATE runs SET name = 'base'")
    _admit(ctx, "after", needs=["base"])
    assert schedule.unmet(ctx, ctx.store.run("after")) is None
    _admit(ctx, "base-2", state=State.FAILED)
    ctx.store.db.execute("UPDATE runs SET name = 'base' WHERE run_id = 'base-2'")
    assert schedule.unmet(ctx, ctx.store.run("after")) == "needs base-2, which is failed"
    _admit(ctx, "self", needs=["self"])
    assert schedule.unmet(ctx, ctx.store.run("self")) == "needs self, and there is no such run"


def test_blocked_runs_say_what_they_wait_for_now(ctx):
    _admit(ctx, "after", needs=["base"])
    schedule.sort_needs(ctx)
    assert _state(ctx, "after") == State.BLOCKED
    _admit(ctx, "base")
    schedule.sort_needs(ctx)
    assert ctx.store.run("after")["reason"] == "needs base, which is queued"
    with ctx.store.transaction():
        ctx.store.update_run("base", state=State.COMPLETED)
    schedule.sort_needs(ctx)
    assert _state(ctx, "after") == State.QUEUED


def test_a_wait_ends_at_its_time_and_a_hold_for_room_when_there_is_room(ctx, clock, monkeypatch):
    free = {"bytes": 1e9}
    monkeypatch.setattr(room, "free_bytes", lambda _path: int(free["bytes"]))
    _admit(ctx, "waits", state=State.WAITING, wake_at=clock.wall() + 5)
    _admit(ctx, "full", state=State.HELD, release="disk", wake_at=clock.wall() + 60)
    _admit(ctx, "person", state=State.HELD, release="person")
    assert schedule.wake(ctx) == pytest.approx(5)
    clock.now += 6
    free["bytes"] = 100e9
    assert schedule.wake(ctx) is None
    assert (_state(ctx, "waits"), _state(ctx, "full")) == (State.QUEUED, State.HELD)
    clock.now += 60
    free["bytes"] = 10.5e9  # ten are wanted, and a little more before it counts as room
    schedule.wake(ctx)
    assert _state(ctx, "full") == State.HELD
    free["bytes"] = 11e9
    schedule.wake(ctx)
    assert (_state(ctx, "full"), _state(ctx, "person")) == (State.QUEUED, State.HELD)


# --- drill


@pytest.mark.parametrize(("n", "faults"), [(1, ["kill", "oom"]), (2, ["nan", "oom"]), (3, ["oom"])])
def test_a_drill_strikes_the_attempts_that_it_names(n, faults):
    drill = [
        {"fault": "kill", "at": 40, "attempts": [1]},
        {"fault": "nan", "at": 60, "attempts": [2]},
        {"fault": "oom", "above": 4, "attempts": None},
    ]
    due = drill_for(drill, n)
    assert [fault["fault"] for fault in due] == faults
    assert all("attempts" not in fault for fault in due)


# --- the verdict on success

HEADER = json.dumps({"w": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}}).encode()
ADAPTER = struct.pack("<Q", len(HEADER)) + HEADER + struct.pack("<2f", 1.0, 2.0)


def _ending(tmp_path, **final):
    adapter = tmp_path / "adapters.safetensors"
    adapter.write_bytes(ADAPTER)
    row = {
        "kind": "final", "iteration": 60, "adapter": str(adapter), "finite": True, "changed": True, "train_loss": 1.5,
        "sha256": "9bdcd83c3f2f4a6a1c0b6a0ef5a1bd5ea5f8d8d7b6d9a8f6b1c3c7ff8a0e1b2d", **final,
    }  # fmt: skip
    return Ending(known=True, code=0, signal=None, iteration=60, phase="done", rows=(row,), ended_at=1.0)


def _sha(data):
    return hashlib.sha256(data).hexdigest()


def test_success_needs_all_of_its_evidence(tmp_path):
    good = _ending(tmp_path, sha256=_sha(ADAPTER))
    assert judge(good, ALL, 60).reached
    assert judge(good, ALL, 60).final["loss"] == 1.5
    assert not judge(good, ALL, 61).reached
    assert not judge(replace(good, code=1), ALL, 60).reached
    assert not judge(replace(good, code=None, signal="SIGKILL"), ALL, 60).reached
    assert not judge(replace(good, rows=()), ALL, 60).reached
    for wrong in ({"finite": False}, {"changed": False}, {"sha256": "0" * 64}, {"adapter": "/nowhere"}):
        verdict = judge(_ending(tmp_path, **{"sha256": _sha(ADAPTER), **wrong}), ALL, 60)
        assert not verdict.reached
        assert len(verdict.missing) == 1, verdict.missing


def test_a_command_succeeds_by_its_exit_status_and_not_when_nobody_saw_it(tmp_path):
    ending = Ending(known=True, code=0, signal=None, iteration=0, phase=None, rows=(), ended_at=1.0)
    assert judge(ending, ("exit_zero",), None).reached
    assert not judge(replace(ending, known=False, code=None), ("exit_zero",), None).reached


def test_an_ending_is_read_from_whatever_is_there(ctx):
    paths = _admit(ctx, "run", attempt=1).attempt(1)
    nothing = read_ending(paths)
    assert (nothing.known, nothing.iteration, nothing.rows) == (False, 0, ())
    paths.metrics.write_text('{"kind": "train", "iteration": 20, "t": 5}\nnot json\n{"kind": "train", "iter')
    paths.heartbeat.write_text('{"iteration": 23, "phase": "train"}   ')
    write_json(paths.exit, {"code": None, "signal": "SIGKILL", "ended_at": 7.0})
    ending = read_ending(paths)
    assert (ending.known, ending.signal, ending.iteration, ending.phase) == (True, "SIGKILL", 23, "train")


# --- keeping


def _checkpoints(paths, *names):
    for name in names:
        (paths.checkpoints / name).mkdir()
        (paths.checkpoints / name / "manifest.json").write_text("{}")
    return {c.name: c for c in candidates(paths.checkpoints)}


def test_bad_checkpoints_are_moved_with_their_problems_and_never_deleted(ctx):
    paths = _admit(ctx, "run")
    found = _checkpoints(paths, "00000020-a1", "00000040-a1")
    bad = [(found["00000040-a1"], ("weights.safetensors: sha256 differs",))]
    assert quarantine(paths, bad) == ["00000040-a1"]
    assert quarantine(paths, bad) == []  # again, after a crash
    assert (paths.quarantine / "00000040-a1.problems.txt").read_text() == "weights.safetensors: sha256 differs\n"
    found = _checkpoints(paths, "00000040-a1")  # the same name, bad again
    quarantine(paths, [(found["00000040-a1"], ("torn",))])
    names = {entry.name for entry in paths.quarantine.iterdir() if entry.is_dir()}
    assert names == {"00000040-a1", "00000040-a1.2"}
    assert [c.name for c in candidates(paths.checkpoints)] == ["00000020-a1"]


def test_a_rewind_moves_what_it_left_behind_numbered_files_included(ctx, tmp_path):
    paths = _admit(ctx, "run", attempt=2)
    _checkpoints(paths, "00000020-a1", "00000040-a1", "00000060-a1")
    adapter = tmp_path / "adapter"
    adapter.mkdir()
    rows = []
    for iteration in (20, 60):
        file = adapter / f"{iteration:07}_adapters.safetensors"
        file.write_bytes(b"x")
        rows.append(json.dumps({"kind": "save", "iteration": iteration, "path": str(file)}))
    paths.attempt(1).metrics.write_text("\n".join(rows) + "\n")
    moved = supersede(paths, {1: 0, 2: 40}, adapter)
    assert moved == ["00000060-a1", "0000060_adapters.safetensors"]
    assert [file.name for file in adapter.iterdir()] == ["0000020_adapters.safetensors"]
    assert sorted(entry.name for entry in (paths.superseded / "a1").iterdir()) == sorted(moved)
    assert supersede(paths, {1: 0, 2: 40}, adapter) == []


# --- the stop ladder


def _stopping(ctx, grace):
    paths = _admit(ctx, "run", state=State.RUNNING, attempt=1)
    with ctx.store.transaction():
        change(ctx, "run", Event.CANCEL, "cancelled by you", desired="cancelled")
        stopping.ask(ctx, "run", 1, grace)
    return paths


@pytest.fixture
def signals(monkeypatch):
    """Signals as they are sent; nobody is there as long as `reachable` is false."""

    class Sent(list):
        reachable = True

    sent = Sent()

    def send(_attempt, number):
        if sent.reachable:
            sent.append(number.name)
        return sent.reachable

    monkeypatch.setattr(stopping.child, "signal_attempt", send)
    return sent


def test_the_ladder_is_climbed_once_rung_by_rung(ctx, clock, signals):
    _stopping(ctx, 10.0)
    assert stopping.climb(ctx) == pytest.approx(10)
    assert signals == ["SIGTERM"]
    clock.now += 9
    assert stopping.climb(ctx) == pytest.approx(1)
    clock.now += 1
    stopping.climb(ctx)
    stopping.climb(ctx)
    assert signals == ["SIGTERM", "SIGKILL"]
    clock.now += 6  # still there: the shim died before it passed the signal on
    stopping.climb(ctx)
    assert signals == ["SIGTERM", "SIGKILL", "SIGKILL"]


def test_a_rung_that_reached_nobody_is_taken_again(ctx, clock, signals):
    _stopping(ctx, 10.0)
    signals.reachable = False
    assert stopping.climb(ctx) < 1
    clock.now += 11
    assert stopping.climb(ctx) < 1
    signals.reachable = True
    stopping.climb(ctx)
    assert signals == ["SIGTERM", "SIGKILL"]


def test_asking_again_does_not_move_the_deadline_and_a_new_boot_does_not_lose_it(ctx, clock, signals):
    _stopping(ctx, 100.0)
    stopping.climb(ctx)
    clock.now += 60
    with ctx.store.transaction():
        stopping.ask(ctx, "run", 1, 100.0)
    assert stopping.climb(ctx) == pytest.approx(40)
    clock.now = 3.0  # the clock began again
    stopping.climb(ctx)
    assert signals == ["SIGTERM", "SIGKILL"]


# --- attempts


def _attempts(ctx):
    watch = ExitWatch()
    attempts = Attempts(ctx, Now(), watch, lambda: None)
    attempts.adopt()
    return attempts, watch


def test_a_completed_run_with_a_stray_process_is_completed_after_a_while(ctx, clock):
    """A stray in a session of its own keeps the lease; nothing is to be launched, so no person is needed."""
    paths = _admit(ctx, "run", state=State.RUNNING, attempt=1)
    write_json(paths.attempt(1).run, {"shim_pid": 0, "trainer_pid": 0})
    write_json(paths.attempt(1).exit, {"code": 0, "signal": None, "ended_at": clock.wall()})
    fd = lease.acquire(paths.lease)
    attempts, watch = _attempts(ctx)
    with watch:
        attempts.poll()
        assert _state(ctx, "run") == State.RUNNING
        clock.now += 31
        attempts.poll()
        attempts.poll()
    os.close(fd)
    assert _state(ctx, "run") == State.COMPLETED
    assert len(attempts) == 0


def test_a_full_disk_while_an_end_is_recorded_only_delays_it(ctx, clock, monkeypatch):
    paths = _admit(ctx, "run", state=State.RUNNING, attempt=1)
    write_json(paths.attempt(1).run, {"shim_pid": 0, "trainer_pid": 0})
    write_json(paths.attempt(1).exit, {"code": 0, "signal": None, "ended_at": clock.wall()})
    working = attempts_module.settle

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(attempts_module, "settle", full)
    attempts, watch = _attempts(ctx)
    with watch:
        for _ in range(6):
            attempts.poll()
        assert _state(ctx, "run") == State.RUNNING
        monkeypatch.setattr(attempts_module, "settle", working)
        clock.now += 10
        attempts.poll()
        attempts.poll()
    assert _state(ctx, "run") == State.COMPLETED


@pytest.mark.parametrize(("desired", "state"), [("cancelled", State.CANCELLED), ("paused", State.HELD)])
def test_what_a_person_asked_for_while_the_end_was_examined_is_done(ctx, clock, desired, state):
    """The examination did not know of the wish; its plan, another attempt, must not win."""
    paths = _admit(ctx, "run", state=State.RUNNING, attempt=1)
    write_json(paths.attempt(1).run, {"shim_pid": 0, "trainer_pid": 0})
    write_json(paths.attempt(1).exit, {"code": 1, "signal": None, "ended_at": clock.wall()})
    attempts, watch = _attempts(ctx)
    with watch:
        attempts.poll()  # examined
        with ctx.store.transaction():
            change(ctx, "run", Event.CANCEL if desired == "cancelled" else Event.PAUSE, "by you", desired=desired)
        attempts.poll()  # settled
    assert _state(ctx, "run") == state
    if desired == "paused":
        assert "paused by you" in ctx.store.run("run")["reason"]


def test_attempts_that_never_started_are_tried_a_few_times_only(ctx):
    for n in range(1, 12):
        if n == 1:
            _admit(ctx, "run", state=State.STARTING, attempt=1)
        elif _state(ctx, "run") == State.QUEUED:
            with ctx.store.transaction():
                ctx.store.insert_attempt(
                    run_id="run", n=n, started_at=0.0, boot_id=ctx.boot, from_iteration=0, resume="fresh"
                )
                change(ctx, "run", Event.PICK, "again", attempt=n)
        attempts, watch = _attempts(ctx)
        with watch:
            attempts.poll()
            attempts.poll()
    run = ctx.store.run("run")
    assert (run["state"], run["attempt"], run["release"]) == (State.HELD, 5, "person")
    assert len(history(ctx, "run", 99)) == 5


# --- inbox


def test_a_file_that_was_finished_before_it_was_moved_here_is_taken_at_once(tmp_path, clock):
    inbox = Inbox((tmp_path,), clock)
    file = tmp_path / "a.yaml"
    file.write_bytes(b"a: 1\n")
    os.utime(file, (clock.wall() - 60, clock.wall() - 60))
    assert [drop.path for drop in inbox.scan()] == [file]


@given(st.lists(st.sampled_from(["write", "wait", "line"]), min_size=1, max_size=12))
def test_a_file_is_never_taken_while_it_grows(tmp_path_factory, steps):
    folder, clock = tmp_path_factory.mktemp("in"), HandClock()
    inbox, file = Inbox((folder,), clock), folder / "a.yaml"
    file.write_bytes(b"")
    os.utime(file, (clock.wall(), clock.wall()))
    for step in steps:
        if step != "wait":
            with file.open("ab") as out:
                out.write(b"k: 1\n" if step == "line" else b"k: ")
            os.utime(file, (clock.wall(), clock.wall()))
            clock.now += 0.05
            assert inbox.scan() == []
        else:
            clock.now += 0.05
            for drop in inbox.scan():
                assert drop.data == file.read_bytes()


def test_a_wrong_clock_does_not_keep_a_file_waiting(tmp_path, clock):
    inbox, file = Inbox((tmp_path,), clock), tmp_path / "a.yaml"
    file.write_bytes(b"a: 1\n")
    os.utime(file, (clock.wall() + 3600, clock.wall() + 3600))  # written an hour from now
    assert inbox.scan() == []
    assert 0 < inbox.due_s() < 1
    clock.now += inbox.due_s()
    assert len(inbox.scan()) == 1


# --- store


def test_many_processes_can_make_the_store_at_once(tmp_path):
    failed = []

    def open_(path):
        try:
            connect(path).close()
        except Exception as error:  # noqa: BLE001 - whatever it is, it is a failure
            failed.append(error)

    for n in range(10):
        threads = [Thread(target=open_, args=(tmp_path / f"{n}.db",)) for _ in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert failed == []
    sync_folder(tmp_path)
