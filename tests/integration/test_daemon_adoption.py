"""A daemon's death never hurts a trainer, and the next daemon learns the true end (promises 2 and 3); the stop ladder."""

import os
import sqlite3
import time

import pytest
from harness_daemon import alive, end, overlaps, serving

from stoker.supervisor import lease
from stoker.supervisor.child import find
from stoker.supervisor.failpoints import list_points
from stoker.supervisor.files import read_json

SHIM_POINTS = [point for point in list_points() if point.startswith("shim.")]
DAEMON_POINTS = [
    point
    for point in list_points()
    if point.startswith("daemon.") and point not in {"daemon.claim.aside", "daemon.command.done", "daemon.edit.written"}
]


def test_a_trainer_outlives_kill_9_of_its_daemon_and_the_next_daemon_adopts_it(bench, tmp_path):
    gate = tmp_path / "gate"
    bench.start()
    run = bench.submit("adopted", "--until", gate, "--exit", 7, "--once")
    pid = bench.wait_noted(run, "start")["pid"]
    bench.wait_state(run, "running")
    bench.kill()
    assert alive(pid)
    bench.start()
    assert bench.wait_state(run, "running")["attempt"] == 1
    assert alive(pid)
    assert find(bench.attempt(run)).trainer_pid == pid
    gate.touch()
    shown = bench.wait_state(run, "completed")
    assert [attempt["exit_code"] for attempt in shown["attempts"]] == [7, 0]
    assert len(bench.noted(run, "start")) == 2
    assert overlaps(bench.lives()) == []


@pytest.mark.parametrize(
    ("options", "code", "name"), [(["--exit", 7], 7, None), (["--signal", "SIGSEGV"], None, "SIGSEGV")]
)
def test_an_end_while_no_daemon_lived_is_recorded_truly(bench, tmp_path, options, code, name):
    gate = tmp_path / "gate"
    bench.start()
    run = bench.submit("orphan", "--until", gate, "--once", *options)
    bench.wait_state(run, "running")
    bench.kill()
    gate.touch()
    bench.wait(bench.attempt(run).exit.exists, "the shim recorded the exit")
    time.sleep(0.05)
    bench.start()
    first = bench.wait_state(run, "completed")["attempts"][0]
    assert (first["exit_code"], first["signal"]) == (code, name)
    assert len(bench.noted(run, "start")) == 2


def test_sigterm_ends_the_daemon_and_leaves_the_trainers(bench, tmp_path):
    gate = tmp_path / "gate"
    bench.start()
    run = bench.submit("left", "--until", gate)
    pid = bench.wait_noted(run, "start")["pid"]
    assert bench.stop() == 0
    assert serving(bench.home) is None
    assert alive(pid)
    assert not bench.noted(run, "signal")
    bench.start()
    gate.touch()
    assert bench.wait_state(run, "completed")["attempt"] == 1
    assert len(bench.lives()) == 1


def test_a_second_daemon_on_one_home_refuses_and_names_the_first(bench):
    bench.start()
    second = bench.stoker("run")
    assert second.returncode == 1
    assert f"a daemon already serves {bench.home.dir} (pid {bench.daemon.pid})" in second.stderr
    assert "Traceback" not in second.stderr
    assert serving(bench.home) == bench.daemon.pid


@pytest.mark.parametrize("killed", [False, True], ids=["same daemon", "another daemon"])
def test_a_trainer_that_ignores_sigterm_is_killed_after_the_grace(bench, killed):
    bench.configure(stop_grace=1.0)
    bench.start()
    run = bench.submit("stubborn", "--seconds", 600, "--ignore-term")
    pid = bench.wait_noted(run, "start")["pid"]
    asked = bench.stoker("cancel", run)
    assert asked.returncode == 0, asked.stderr
    bench.wait_noted(run, "signal")
    if killed:
        bench.kill()
        assert alive(pid)
        bench.start()
    shown = bench.wait_state(run, "cancelled")
    assert shown["attempts"][0]["signal"] == "SIGKILL"
    assert not alive(pid)
    events = bench.events(run)
    assert events.index("stopping") < events.index("killed")


def test_a_stop_that_comes_before_the_trainer_is_known_reaches_it_all_the_same(bench):
    """Paused while `starting`, or by a command that waited for the daemon: the SIGTERM is not lost."""
    bench.start()
    run = bench.submit("early", "--seconds", 600)
    done = bench.stoker("pause", run)
    assert done.returncode == 0, done.stderr
    shown = bench.wait_state(run, "held")
    assert shown["reason"] == "paused by you"
    assert not [process for process in bench.processes() if process.pid != bench.daemon.pid]


def test_a_stop_survives_the_death_of_the_daemon_right_after_it_was_answered(bench):
    bench.start(failpoints="daemon.command.done:kill@1")
    run = bench.submit("asked", "--seconds", 600)
    bench.wait_state(run, "running")
    bench.stoker("cancel", run)
    bench.finished()
    assert bench.show(run)["state"] == "stopping"
    bench.start()
    bench.wait_state(run, "cancelled")
    assert bench.noted(run, "signal")


def test_a_grandchild_that_outlives_its_trainer_is_swept(bench):
    bench.start()
    run = bench.submit("parent", "--grandchild", 600)
    left = bench.wait_noted(run, "left")["child"]
    bench.wait_state(run, "completed")
    assert not alive(left)


def test_a_grandchild_is_swept_although_the_shim_was_killed(bench, tmp_path):
    gate = tmp_path / "gate"
    bench.start()
    run = bench.submit("orphaned", "--grandchild", 600, "--until", gate, "--exit", 1)
    left = bench.wait_noted(run, "left")
    bench.wait_state(run, "running")
    end(find(bench.attempt(run)).shim_pid)
    bench.wait(lambda: not find(bench.attempt(run)).shim_alive, "the shim is gone")
    assert alive(left["pid"])
    gate.touch()
    bench.wait(lambda: not alive(left["child"]), "the grandchild is swept")
    bench.wait(lambda: bench.show(run)["attempts"][0]["ended_at"], "the attempt's end is recorded")
    assert overlaps(bench.lives()) == []


def test_starting_without_run_json_is_started_again_and_counts_for_nothing(bench):
    """The daemon was killed between the commit of `starting` and the start of the shim."""
    bench.start(failpoints="daemon.launch.recorded:kill@1", ready=False)
    run = bench.submit("never", "--seconds", 0)
    bench.finished()
    assert bench.show(run)["state"] == "starting"
    assert not bench.attempt(run).run.exists()
    bench.start()
    shown = bench.wait_state(run, "completed")
    assert [attempt["n"] for attempt in shown["attempts"]] == [1, 2]
    assert shown["attempts"][0]["cause"] == "interrupted"
    assert [life.start["attempt"] for life in bench.lives()] == [2]


@pytest.mark.parametrize("point", DAEMON_POINTS)
@pytest.mark.parametrize("way", ["drop", "submit"])
def test_killed_at_any_labelled_point_the_next_daemon_brings_the_job_to_its_one_end(bench, point, way):
    bench.start(failpoints=f"{point}:kill@1")
    job = bench.job("--seconds", 0.2)
    if way == "drop":
        bench.drop("once.yaml", job)
    else:
        path = bench.write("once.yaml", job)
        answer = bench.stoker("submit", path)
        assert "Traceback" not in answer.stderr
    bench.finished()
    bench.start()
    bench.wait_state("once", "completed")
    assert [run["name"] for run in bench.runs()] == ["once"]
    assert [life.finished for life in bench.lives()] == [True]
    assert [row["status"] for row in bench.records()] == ["completed"]
    assert not list(bench.home.inbox.glob("*.yaml"))


@pytest.mark.parametrize("point", SHIM_POINTS)
def test_a_shim_killed_at_any_labelled_point_never_makes_two_trainers(bench, point):
    bench.start(failpoints=f"{point}:kill@1")
    run = bench.submit("shim", "--seconds", 0.3)
    shown = bench.wait_state(run, "completed")
    lives = bench.lives()
    assert overlaps(lives) == []
    assert lives[-1].finished
    started = {life.start["attempt"] for life in lives}
    if point in {"shim.start", "shim.claimed"}:
        assert started == {2}
    elif point == "shim.recorded":
        assert started == {1}
    else:  # nobody saw how the first one ended
        assert started == {1, 2}
        assert shown["attempts"][0]["exit_code"] is None


def test_a_shim_that_can_never_start_is_tried_a_few_times_and_then_held(bench):
    bench.start(failpoints=",".join(f"shim.start:kill@{n}" for n in range(1, 30)))
    run = bench.submit("doomed", "--seconds", 0)
    shown = bench.wait_state(run, "held")
    assert 3 <= shown["attempt"] <= 10
    assert "times in a row" in shown["reason"]
    assert bench.lives() == []
    bench.stop()
    bench.start()
    assert bench.stoker("resume", run).returncode == 0
    bench.wait_state(run, "completed")


def test_a_lease_that_a_stranger_holds_stops_the_next_launch_and_names_the_holder(bench):
    run = bench.submit("leased", "--seconds", 0)
    fd = lease.acquire(bench.home.run(run).lease)
    try:
        bench.start()
        shown = bench.wait_state(run, "held")
        assert str(os.getpid()) in shown["reason"]
        assert f"stoker resume {run} --force" in shown["reason"]
        assert bench.lives() == []
        assert bench.stoker("resume", run, "--force").returncode == 0
        bench.wait_state(run, "completed")
    finally:
        os.close(fd)


def test_a_failed_end_of_one_run_does_not_keep_others_from_theirs(bench, tmp_path):
    """Rules of a job that have gone bad since it was admitted: its run is held with the reason, the others go on."""
    gate = tmp_path / "gate"
    rules = tmp_path / "rules.yaml"
    rules.write_text("[]\n")
    bench.configure(slots=2)
    bench.start()
    bad = bench.submit("bad", "--until", gate, "--exit", 1, recovery={"rules": str(rules)})
    good = bench.submit("good", "--until", gate)
    bench.wait_state(bad, "running")
    bench.wait_state(good, "running")
    rules.write_text("- id: [not a rule\n")
    gate.touch()
    bench.wait_state(good, "completed")
    shown = bench.wait_state(bad, "held")
    assert "rules.yaml" in shown["reason"]
    assert all(row["event"] == "attempt_failed" for row in bench.faults())
    bench.home.log.write_text("")  # those were provoked


def test_a_run_that_cannot_be_started_does_not_block_those_behind_it(bench):
    first = bench.submit("first", "--seconds", 0)
    second = bench.submit("second", "--seconds", 0)
    bench.home.run(first).job.unlink()
    bench.start()
    bench.wait_state(second, "completed")
    assert "cannot be started" in bench.wait_state(first, "held")["reason"]
    assert {row["event"] for row in bench.faults()} == {"start_failed"}
    bench.home.log.write_text("")  # that was provoked


def test_an_attempt_of_another_boot_is_interrupted_and_goes_on(bench, tmp_path):
    gate = tmp_path / "gate"
    bench.start()
    run = bench.submit("rebooted", "--until", gate)
    bench.wait_state(run, "running")
    bench.kill()
    processes = find(bench.attempt(run))
    end(processes.shim_pid)
    end(processes.trainer_pid)
    bench.wait(lambda: not lease.held(bench.home.run(run).lease), "both are gone, as after a power loss")
    with sqlite3.connect(bench.home.database) as db:
        db.execute("UPDATE attempts SET boot_id = 'another'")
    db.close()
    assert read_json(bench.attempt(run).exit) is None
    gate.touch()
    bench.start()
    shown = bench.wait_state(run, "completed")
    assert [attempt["cause"] for attempt in shown["attempts"]] == ["host_rebooted", "healthy"]
