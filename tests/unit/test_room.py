"""Room on the disk: what an attempt wants, what is deleted for it, and how a run waits for it."""

import json
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stoker.recovery.checkpoint.choose import Choice
from stoker.recovery.checkpoint.manifest import FileFacts, Manifest, encode
from stoker.recovery.checkpoint.room import Expendable, Room, pause_s
from stoker.supervisor import room as room_module
from stoker.supervisor import schedule
from stoker.supervisor.attempts import Attempts
from stoker.supervisor.clock import SystemClock
from stoker.supervisor.context import Context
from stoker.supervisor.files import write_json
from stoker.supervisor.host.exits import ExitWatch
from stoker.supervisor.launching import launch, request
from stoker.supervisor.paths import Home
from stoker.supervisor.prepare import prepare
from stoker.supervisor.room import make_room, measure, words
from stoker.supervisor.settings import DiskSettings, Settings
from stoker.supervisor.settling import NEWEST
from stoker.supervisor.states import State
from stoker.supervisor.store.write import Store

GB = 1_000_000_000


# --- the arithmetic


def test_an_attempt_wants_a_checkpoint_beside_what_stays_free():
    assert Room(26 * GB, 2 * GB, 24 * GB).enough
    short = Room(12_100_000_000, 2 * GB, 24 * GB)
    assert not short.enough
    assert words(short) == ("12.1 GB free, 26.0 GB wanted: 2.0 GB kept free (disk.min_free) + 24.0 GB for a checkpoint")


def test_what_the_trainer_removes_itself_counts_as_room():
    assert Room(3 * GB, 2 * GB, 24 * GB, own=24 * GB).enough
    assert not Room(GB // 10, 2 * GB, 24 * GB, own=48 * GB).enough  # logs and rows need a little
    assert "- 23.0 GB that older checkpoints give back" in words(Room(0, 2 * GB, 24 * GB, own=23 * GB))


def test_as_little_as_possible_is_deleted_and_nothing_where_that_cannot_help(tmp_path):
    items = tuple(Expendable(tmp_path / str(n), 10 * GB) for n in range(3))
    assert Room(26 * GB, 2 * GB, 24 * GB, expendable=items).deletions() == ()
    assert Room(15 * GB, 2 * GB, 24 * GB, expendable=items).deletions() == items[:2]
    assert Room(-5 * GB, 2 * GB, 24 * GB, expendable=items).deletions() is None


def test_room_has_returned_when_there_is_a_little_more_than_is_wanted():
    assert not Room(26 * GB, 2 * GB, 24 * GB).returned()
    assert Room(26 * GB + GB // 5, 2 * GB, 24 * GB).returned()


SIZES = st.integers(0, 10**13)


@given(SIZES, SIZES, SIZES, SIZES, st.lists(SIZES, max_size=5))
def test_what_was_released_is_not_held_again(free, kept_free, checkpoint, own, sizes):
    found = Room(free, kept_free, checkpoint, own, tuple(Expendable(None, size) for size in sizes))
    doomed = found.deletions()
    if found.returned():
        assert doomed is not None
    if doomed is not None:
        after = Room(free + sum(item.size for item in doomed), kept_free, checkpoint, own)
        assert after.enough
        assert not doomed or free + sum(item.size for item in doomed[:-1]) < found.wanted


def test_a_disk_that_refuses_for_no_visible_reason_is_asked_ever_more_rarely():
    pauses = [pause_s(n) for n in range(10)]
    assert pauses[:3] == [5, 15, 45]
    assert pauses == sorted(pauses)
    assert pauses[-1] == pause_s(10**6) == 3600


# --- a run's folder


@pytest.fixture
def ctx(tmp_path):
    home, clock = Home(tmp_path / "home"), SystemClock()
    home.create()
    store = Store(home, clock)
    yield Context(home, Settings(disk=DiskSettings(min_free=2)), clock, store, "boot", "host")
    store.close()


@pytest.fixture
def free(monkeypatch):
    """How much is free; what is deleted is not added."""
    amount = {"bytes": 0}
    monkeypatch.setattr(room_module, "free_bytes", lambda _path: amount["bytes"])
    return lambda size: amount.update(bytes=int(size))


def admit(ctx, *, starts=(0,), allow=(), estimate=None, **columns):
    paths = ctx.home.run("run")
    for folder in (paths.checkpoints, paths.staging, paths.attempts):
        folder.mkdir(parents=True)
    recovery = {"lossy": "allow", "start_over": "ask", "policies": None, "rules": None}
    stoker = {"needs": [], "recovery": recovery, "preflight": {"allow": list(allow)}}
    job = {
        "config": {"iters": 100}, "stoker": stoker, "base_dir": None, "test": False, "keep": 3,
        "every": {"iterations": 5, "seconds": 900.0}, "checkpoint_bytes": estimate,
    }  # fmt: skip
    paths.job.write_text("model: m\n")
    ctx.store.insert_run(
        {"run_id": "run", "name": "run", "source": None, "state": State.QUEUED, "reason": "", "trainer": "mlx-lm",
         "job": json.dumps(job), "attempt": len(starts), "next": json.dumps({"target": NEWEST, "mode": "exact"}),
         **columns}
    )  # fmt: skip
    for n, start in enumerate(starts, start=1):
        with ctx.store.transaction():
            ctx.store.insert_attempt(
                run_id="run",
                n=n,
                started_at=float(n),
                ended_at=n + 0.5,
                boot_id="b",
                from_iteration=start,
                resume="exact",
            )
    return paths


def checkpoint(folder, name, size=3000):
    """A checkpoint whose manifest calls it `size` bytes; on the disk it has a few hundred."""
    made = Manifest(
        "run", 1, 1, 1, None, "", "full", {"weights.safetensors": FileFacts(size, "")}, "", {}, None, True, {}
    )  # fmt: skip
    (folder / name).mkdir(parents=True)
    (folder / name / "manifest.json").write_bytes(encode(made))
    return sum(file.stat().st_size for file in (folder / name).iterdir())


def run(ctx):
    return ctx.store.run("run")


def pruned(ctx):
    rows = ctx.store.db.execute("SELECT text FROM events WHERE kind = 'pruned' ORDER BY id").fetchall()
    return [row["text"].split()[0] for row in rows]


def test_the_next_checkpoint_is_as_large_as_the_newest_one(ctx, free):
    free(10 * GB)
    paths = admit(ctx, starts=(0, 20, 10), estimate=7 * GB)
    assert measure(ctx, run(ctx)).checkpoint == 7 * GB
    size = checkpoint(paths.checkpoints, "00000005-a1")
    checkpoint(paths.checkpoints, "00000010-a1")
    checkpoint(paths.checkpoints, "00000030-a2", size=4000)  # left behind by a rewind: it gives nothing back
    (paths.staging / "torn").write_bytes(bytes(50))
    found = measure(ctx, run(ctx))
    assert (found.free, found.kept_free, found.checkpoint) == (10 * GB, 2 * GB, 4000)
    assert found.own == size + 50
    assert [item.path.name for item in found.expendable] == ["00000030-a2"]


def test_a_start_from_iteration_0_stands_on_no_checkpoint(ctx, free):
    paths = admit(ctx, next=json.dumps({"target": 0, "start_over": True}))
    size = checkpoint(paths.checkpoints, "00000005-a1", size=0)
    checkpoint(paths.checkpoints, "00000010-a1", size=0)
    free(2 * GB - size)
    assert measure(ctx, run(ctx)).own == 0
    make_room(ctx, run(ctx))
    assert pruned(ctx) == ["checkpoints/00000005-a1"]
    assert [entry.name for entry in paths.checkpoints.iterdir()] == ["00000010-a1"]
    assert list(paths.staging.iterdir()) == []


def test_an_estimate_that_a_person_did_not_believe_holds_nothing(ctx, free):
    free(3 * GB)
    paths = admit(ctx, allow=["disk-space"], estimate=200 * GB)
    assert measure(ctx, run(ctx)).enough
    checkpoint(paths.checkpoints, "00000005-a1", size=5 * GB)
    assert not measure(ctx, run(ctx)).enough


def test_under_pressure_superseded_goes_first_then_quarantine_but_its_newest(ctx, free):
    paths = admit(ctx, estimate=0)
    size = checkpoint(paths.superseded / "a2", "00000030-a2")
    checkpoint(paths.superseded / "a10", "00000020-a10")
    checkpoint(paths.superseded / "a2", "00000040-a2")
    checkpoint(paths.quarantine, "00000050-a1")
    checkpoint(paths.quarantine, "00000010-a3")
    checkpoint(paths.quarantine, "00000050-a1.2")
    for name in ("00000050-a1", "00000010-a3"):
        (paths.quarantine / f"{name}.problems.txt").write_text("torn\n")
    free(2 * GB - 2 * size)
    make_room(ctx, run(ctx))
    assert pruned(ctx) == ["superseded/a2/00000030-a2", "superseded/a2/00000040-a2"]
    assert not (paths.superseded / "a2" / "00000030-a2").exists()
    free(2 * GB - 3 * size)
    make_room(ctx, run(ctx))
    assert pruned(ctx)[2:] == ["superseded/a10/00000020-a10", "quarantine/00000050-a1", "quarantine/00000050-a1.2"]
    left = sorted(entry.name for entry in paths.quarantine.iterdir())
    assert left == ["00000010-a3", "00000010-a3.problems.txt", "00000050-a1.problems.txt"]


def test_nothing_is_deleted_when_that_would_not_be_enough(ctx, free):
    paths = admit(ctx)
    checkpoint(paths.superseded / "a1", "00000030-a1")
    free(GB)
    found = make_room(ctx, run(ctx))
    assert (pruned(ctx), found.enough) == ([], False)
    assert words(found) == "1.0 GB free, 2.0 GB must stay free (disk.min_free)"
    ctx.store.db.execute("UPDATE runs SET next = ?", (json.dumps({"target": NEWEST, "needs": GB}),))
    assert "in superseded and quarantine would not be enough" in words(measure(ctx, run(ctx)))


def test_a_run_without_room_is_held_and_goes_on_when_the_same_sum_says_so(ctx, free):
    admit(ctx, estimate=24 * GB)
    free(12 * GB)
    assert launch(ctx, run(ctx), request(ctx, run(ctx)), Choice(None, ())) is None
    held = run(ctx)
    assert (held["state"], held["release"], held["attempt"]) == (State.HELD, "disk", 1)
    assert held["reason"].startswith("12.0 GB free, 26.0 GB wanted: 2.0 GB kept free (disk.min_free) + 24.0 GB")
    ctx.store.db.execute("UPDATE runs SET wake_at = 0")
    free(26 * GB)
    schedule.wake(ctx)
    assert run(ctx)["state"] == State.HELD  # at the edge it would be walked to and fro
    free(27 * GB)
    schedule.wake(ctx)
    assert run(ctx)["state"] == State.QUEUED
    assert make_room(ctx, run(ctx)).enough


def test_a_launch_is_not_tried_every_minute(ctx, free):
    """A disk that has room and refuses every write: each hold is longer than the one before."""
    admit(ctx, estimate=24 * GB)
    waits = []
    for _ in range(3):
        free(12 * GB)
        launch(ctx, run(ctx), request(ctx, run(ctx)), Choice(None, ()))
        waits.append(run(ctx)["wake_at"] - ctx.clock.wall())
        ctx.store.db.execute("UPDATE runs SET wake_at = 0")
        free(27 * GB)
        schedule.wake(ctx)
    assert waits == pytest.approx([5, 15, 45], abs=3)


def test_what_the_trainer_found_no_room_for_is_believed(ctx, free):
    """A trainer without a word about room in the store: what it said when it stopped is all that is known."""
    paths = admit(ctx, state=State.RUNNING)
    attempt = paths.attempt(1)
    attempt.dir.mkdir()
    fault = {"kind": "fault", "cause": "disk_full", "iteration": 0, "what": "3.00 GB free", "needs": 26 * GB}
    attempt.metrics.write_text(json.dumps(fault) + "\n")
    write_json(attempt.launch, {"trainer": {"min_free": 2 * GB}})
    write_json(attempt.run, {"shim_pid": 0, "trainer_pid": 0})
    write_json(attempt.exit, {"code": 70, "signal": None, "ended_at": 7.0})
    with ExitWatch() as watch, ThreadPoolExecutor(1) as pool:
        attempts = Attempts(ctx, pool, watch, lambda: None)
        attempts.adopt()
        while len(attempts):
            attempts.poll()
    held = run(ctx)
    assert (held["state"], held["release"], json.loads(held["next"])["needs"]) == (State.HELD, "disk", 24 * GB)
    assert held["reason"].startswith("the disk is full before its first iteration; the run waits for room")
    assert "(3.00 GB free)" in held["reason"]
    ctx.store.db.execute("UPDATE runs SET wake_at = 0")
    free(26 * GB)
    schedule.wake(ctx)
    assert run(ctx)["state"] == State.HELD
    free(27 * GB)
    schedule.wake(ctx)
    assert run(ctx)["state"] == State.QUEUED


def test_what_checkpoints_are_bound_by_reaches_the_trainer(ctx, free):
    free(100 * GB)
    paths = admit(ctx, starts=(0, 0, 10))
    diagnoses = [
        {"onset": 61, "cause": "nan_loss"},
        {"onset": 40, "cause": "divergence"},
        {"onset": None, "cause": "killed"},
    ]
    with ctx.store.transaction():
        for n, diagnosis in enumerate(diagnoses, start=1):
            ctx.store.update_attempt("run", n, diagnosis=json.dumps(diagnosis), train_s=3600.0, to_iteration=70)
    prepare(request(ctx, run(ctx)), Choice(None, ()))
    wants = json.loads(paths.attempt(4).launch.read_bytes())["trainer"]
    assert wants["every"] == {"iterations": 5, "seconds": 900.0, "auto": False}  # accepted before there was auto
    assert wants["write_per_s"] == pytest.approx(2e12 / 86_400)
    assert (wants["min_free"], wants["suspect"]) == (2 * GB, 40)
    assert wants["mtbf_s"] == pytest.approx((24 + 3) * 3600 / 4)
    assert Settings(write_budget=0).write_per_s is None


def test_another_end_meanwhile_does_not_make_a_request_stale(ctx, free):
    free(100 * GB)
    admit(ctx)
    before = request(ctx, run(ctx))
    with ctx.store.transaction():
        ctx.store.update_attempt("run", 1, train_s=1e6)
    after = request(ctx, run(ctx))
    assert after.bounds.mtbf_s > before.bounds.mtbf_s
    assert after == before
