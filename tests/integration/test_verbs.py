"""Submitting and acting by the installed command: answers, exit codes, shapes, and what happens with the daemon down."""

import json
import os
import sys
from itertools import pairwise

import pytest
from harness_daemon import most_at_once, overlaps

RECORD_FIELDS = {
    "run_id", "model", "method", "hardware", "config", "started_at", "status", "final_loss", "iters_completed",
    "wall_time_hours",
}  # fmt: skip
PROBLEM = {"file", "line", "column", "message", "nearest"}


@pytest.fixture
def gate(tmp_path):
    return tmp_path / "gate"


def _answer(done):
    return json.loads(done.stdout)


# --- submit


def test_submit_with_a_daemon_prints_the_id_and_the_run_completes(bench):
    bench.start()
    done = bench.stoker("submit", bench.write("a.yaml", bench.job()), "--json")
    assert done.returncode == 0
    answer = _answer(done)
    assert set(answer) >= {"run_id", "accepted", "errors"}
    assert (answer["accepted"], answer["errors"]) == (True, [])
    bench.wait_state(answer["run_id"], "completed")


def test_submit_without_a_daemon_queues_the_run_and_says_so(bench):
    path = bench.write("a.yaml", bench.job())
    done = bench.stoker("submit", path)
    assert done.returncode == 0
    assert "no daemon runs" in done.stderr
    assert bench.show(done.stdout.strip())["state"] == "queued"
    waited = bench.stoker("submit", path, "--wait")
    assert waited.returncode == 3
    assert "stoker run" in waited.stderr
    bench.start("--drain", ready=False)
    assert bench.finished() == 0
    assert [run["state"] for run in bench.runs()] == ["completed", "completed"]


@pytest.mark.parametrize("up", [True, False], ids=["daemon up", "daemon down"])
def test_an_invalid_job_is_refused_with_its_place_and_what_was_meant(bench, up):
    if up:
        bench.start()
    path = bench.write("bad.yaml", b"model: org/model\nhf_dataset: {path: org/data}\nitres: 100\n")
    plain = bench.stoker("submit", path)
    assert plain.returncode == 2
    assert "bad.yaml:3:1: " in plain.stderr
    assert "did you mean iters?" in plain.stderr
    as_json = bench.stoker("submit", path, "--json")
    assert as_json.returncode == 2
    answer = _answer(as_json)
    assert (answer["run_id"], answer["accepted"]) == (None, False)
    assert all(set(error) == PROBLEM for error in answer["errors"])
    assert (3, 1, "iters") in {(error["line"], error["column"], error["nearest"]) for error in answer["errors"]}
    assert bench.runs() == []


def test_submit_of_what_is_no_file_is_a_usage_error(bench):
    for path in (bench.folder / "nowhere.yaml", bench.folder):
        done = bench.stoker("submit", path)
        assert done.returncode == 2
        assert str(path) in done.stderr
        assert "Traceback" not in done.stderr
    large = bench.write("large.yaml", b"# " + b"x" * 1_000_001)
    assert bench.stoker("submit", large).returncode == 2


@pytest.mark.parametrize(("options", "code"), [([], 0), (["--exit", 9], 5)], ids=["completed", "failed"])
def test_wait_ends_with_the_run_and_tells_by_its_exit_code(bench, options, code):
    bench.start()
    job = bench.job(*options, recovery={"policies": str(_no_patience(bench))})
    done = bench.stoker("submit", bench.write("w.yaml", job), "--wait")
    assert done.returncode == code, done.stderr
    if code:
        assert "stoker explain" in done.stderr


def _no_patience(bench):
    """Policies that give up at once."""
    text = (
        "version: 1\nrows:\n"
        "  - causes: [unknown]\n    why: A test has no time.\n    rungs:\n"
        "      - {id: give-up, action: fail, say: given up}\n"
        "    examples:\n      - {given: {}, expect: {rung: give-up, action: fail}}\n"
    )
    return bench.write("policies.yaml", text.encode())


def test_relative_paths_start_at_the_job_file(bench):
    bench.start()
    script = bench.write("train.sh", b"#!/bin/sh\npwd > where\n")
    script.chmod(0o755)
    job = b"stoker: {trainer: command, command: [./train.sh]}\n"
    done = bench.stoker("submit", bench.write("here.yaml", job), "--wait")
    assert done.returncode == 0, done.stderr
    assert (bench.folder / "where").read_text().strip() == str(bench.folder)


# --- pause, resume, cancel, retry


def test_pause_and_resume_a_running_run(bench, gate):
    bench.start()
    run = bench.submit("p", "--until", gate)
    bench.wait_noted(run, "start")
    paused = bench.stoker("pause", run, "--json")
    assert paused.returncode == 0
    assert set(_answer(paused)) >= {"run_id", "state"}
    held = bench.wait_state(run, "held")
    assert held["reason"] == "paused by you"
    assert bench.noted(run, "signal")
    again = bench.stoker("pause", run)
    assert again.returncode == 0
    gate.touch()
    assert bench.stoker("resume", run).returncode == 0
    assert bench.wait_state(run, "completed")["attempt"] == 2


def test_a_paused_run_frees_its_slot_and_keeps_its_place(bench, gate):
    first = bench.submit("first", "--until", gate)
    second = bench.submit("second", "--until", gate)
    third = bench.submit("third")
    bench.start()
    bench.wait_noted(first, "start")
    bench.stoker("pause", first)
    bench.wait_noted(second, "start")
    bench.stoker("resume", first)
    gate.touch()
    for run in (first, second, third):
        bench.wait_state(run, "completed")
    starts = [life.run for life in bench.lives()]
    assert starts == [first, second, first, third]
    assert most_at_once(bench.lives()) == 1


def test_pause_resume_and_cancel_of_a_queued_run(bench):
    bench.start()
    blocker = bench.submit("blocker", "--seconds", 600)
    run = bench.submit("queued")
    assert bench.stoker("pause", run).returncode == 0
    assert bench.show(run)["state"] == "held"
    assert bench.stoker("resume", run).returncode == 0
    assert bench.show(run)["state"] == "queued"
    assert bench.stoker("cancel", run).returncode == 0
    assert bench.show(run)["state"] == "cancelled"
    assert bench.lives()[0].run == blocker
    assert len(bench.lives()) == 1
    assert bench.stoker("retry", run).returncode == 0
    bench.stoker("cancel", blocker)
    assert bench.wait_state(run, "completed")["attempt"] == 1


def test_release_is_another_name_of_resume(bench):
    bench.start()
    bench.submit("blocker", "--seconds", 600)
    run = bench.submit("queued")
    bench.stoker("pause", run)
    assert bench.stoker("release", run).returncode == 0
    assert bench.show(run)["state"] == "queued"


def test_cancel_wins_over_an_earlier_pause(bench):
    bench.configure(stop_grace=2)
    bench.start()
    run = bench.submit("both", "--seconds", 600, "--ignore-term")
    bench.wait_noted(run, "start")
    assert bench.stoker("pause", run).returncode == 0
    assert bench.stoker("cancel", run).returncode == 0
    bench.wait_state(run, "cancelled")
    assert bench.events(run).count("killed") == 1


def test_retry_of_a_failed_run_clears_its_budgets(bench):
    bench.start()
    run = bench.submit("again", "--exit", 9, recovery={"policies": str(_no_patience(bench))})
    assert bench.wait_state(run, "failed")["attempt"] == 1
    assert bench.stoker("retry", run).returncode == 0
    assert bench.wait_noted(run, "end", times=2)
    assert bench.wait_state(run, "failed")["attempt"] == 2
    assert [row["status"] for row in bench.records()] == ["failed", "failed"]


def test_retry_is_refused_while_another_run_writes_its_adapter_folder(bench, gate):
    bench.start()
    adapter = {"adapter_path": str(bench.folder / "adapter")}
    path = bench.write("one.yaml", bench.job("--until", gate, top=adapter))
    one = bench.stoker("submit", path).stdout.strip()
    assert bench.stoker("submit", path).returncode == 2
    bench.stoker("cancel", one)
    bench.wait_state(one, "cancelled")
    two = bench.stoker("submit", bench.write("two.yaml", bench.job("--until", gate, top=adapter))).stdout.strip()
    refused = bench.stoker("retry", one)
    assert refused.returncode == 1
    assert two in refused.stderr
    gate.touch()
    bench.wait_state(two, "completed")
    assert bench.stoker("retry", one).returncode == 0
    bench.wait_state(one, "completed")


def test_what_makes_no_sense_is_refused_with_the_verb_that_does(bench):
    bench.start()
    run = bench.submit("done")
    bench.wait_state(run, "completed")
    for verb in ("pause", "resume", "cancel", "retry"):
        refused = bench.stoker(verb, run)
        assert refused.returncode == 1, verb
        assert f"{run} is completed" in refused.stderr
        assert "Traceback" not in refused.stderr
    bench.submit("blocker", "--seconds", 600)
    queued = bench.submit("queued")
    for verb in ("resume", "retry"):
        assert bench.stoker(verb, queued).returncode == 1
    bench.stoker("pause", queued)
    refused = bench.stoker("retry", queued)
    assert refused.returncode == 1
    assert "stoker resume" in refused.stderr


@pytest.mark.parametrize("up", [True, False], ids=["daemon up", "daemon down"])
def test_an_unknown_run_is_exit_4(bench, up):
    if up:
        bench.start()
    for words in (["pause", "nobody"], ["cancel", ""], ["show", "nobody"]):
        done = bench.stoker(*words)
        assert done.returncode == 4, (words, done.stderr)
        assert "stoker runs" in done.stderr


def test_a_command_without_a_daemon_is_kept_and_carried_out_at_the_next_start(bench, gate):
    run = bench.submit("kept", "--until", gate)
    done = bench.stoker("cancel", "kept")
    assert done.returncode == 3
    assert "will be carried out" in done.stderr
    newer = bench.submit("kept")  # the name means another run by now; the command does not
    bench.start()
    bench.wait_state(run, "cancelled")
    bench.wait_state(newer, "completed")
    assert {life.run for life in bench.lives()} == {newer}


def test_a_run_is_named_by_its_id_a_unique_prefix_or_its_name(bench):
    bench.start()
    bench.submit("blocker", "--seconds", 600)
    one = bench.submit("alpha-one")
    two = bench.submit("alpha-two")
    assert _answer(bench.stoker("pause", one, "--json"))["run_id"] == one
    assert _answer(bench.stoker("pause", "alpha_t", "--json"))["run_id"] == two
    several = bench.stoker("pause", "alpha")
    assert several.returncode == 4
    assert one in several.stderr
    assert two in several.stderr
    newest = bench.submit("alpha-two")
    assert _answer(bench.stoker("pause", "alpha-two", "--json"))["run_id"] == newest


def test_a_command_that_was_carried_out_before_a_kill_is_answered_and_not_repeated(bench, gate):
    bench.start(failpoints="daemon.command.done:kill@1")
    run = bench.submit("once", "--until", gate)
    bench.wait_noted(run, "start")
    done = bench.stoker("pause", run)
    assert done.returncode == 0, done.stderr
    bench.finished()
    bench.start()
    bench.wait_state(run, "held")
    gate.touch()
    bench.stoker("resume", run)
    bench.wait_state(run, "completed")


# --- order


def test_higher_priority_first_then_first_come(bench, gate):
    bench.start()
    bench.submit("gate", "--until", gate)
    names = {name: bench.submit(name, priority=priority) for name, priority in
             (("low", -1), ("first", 0), ("second", 0), ("high", 5))}  # fmt: skip
    gate.touch()
    for name in names:
        bench.wait_state(name, "completed")
    order = [life.run for life in bench.lives()][1:]
    assert order == [names[name] for name in ("high", "first", "second", "low")]
    assert most_at_once(bench.lives()) == 1


def test_slots_are_used_and_never_exceeded(bench):
    bench.configure(slots=3)
    for n in range(9):
        bench.submit(f"s{n}", "--seconds", 0.5)
    bench.start("--drain", ready=False)
    bench.finished()
    assert most_at_once(bench.lives()) == 3
    assert overlaps(bench.lives()) == []


def test_needs_block_until_they_have_completed(bench, gate):
    bench.start()
    after = bench.submit("after", needs=["base"])
    blocked = bench.wait_state(after, "blocked")
    assert blocked["reason"] == "needs base, and there is no such run"
    base = bench.submit("base", "--until", gate)
    bench.wait(lambda: base in bench.show(after)["reason"], "the reason names the run")
    bench.stoker("cancel", base)
    bench.wait(lambda: "cancelled" in bench.show(after)["reason"], "the reason says what became of it")
    assert bench.noted(after, "start") == []
    gate.touch()
    bench.stoker("retry", base)
    bench.wait_state(after, "completed")
    assert [life.run for life in bench.lives()][-2:] == [base, after]
    for one, next_ in pairwise(bench.lives()):
        assert one.end["t"] <= next_.start["t"]


def test_needs_that_go_round_in_a_circle_are_refused(bench):
    bench.submit("one", needs=["two"])
    done = bench.stoker("submit", bench.write("two.yaml", bench.job(needs=["one"])))
    assert done.returncode == 2
    assert "two -> one -> two" in done.stderr


# --- hooks, records, starts and ends of the daemon


def test_the_hook_gets_the_event_as_json_when_a_run_is_held_failed_or_completed(bench):
    told = bench.folder / "told.jsonl"
    bench.configure(notify={"command": ["/bin/sh", "-c", f"cat >> {told}"]}, slots=2)
    policies = _no_patience(bench)
    bench.start()
    good = bench.submit("good")
    bad = bench.submit("bad", "--exit", 9, recovery={"policies": str(policies)})
    bench.wait_state(good, "completed")
    bench.wait_state(bad, "failed")
    stuck = bench.submit("stuck")
    bench.wait_state(stuck, "completed")
    own = bench.folder / "own.jsonl"
    mine = bench.submit("mine", notify={"command": ["/bin/sh", "-c", f"cat >> {own}"]})
    bench.wait_state(mine, "completed")
    bench.wait(lambda: told.exists() and len(told.read_text().splitlines()) == 3, "three events were told")
    events = {row["run_id"]: row for row in map(json.loads, told.read_text().splitlines())}
    assert {run: row["state"] for run, row in events.items()} == {
        good: "completed", bad: "failed", stuck: "completed",
    }  # fmt: skip
    assert set(events[bad]) >= {"run_id", "name", "state", "reason", "attempt", "iteration", "iters", "loss"}
    bench.wait(own.exists, "the job's own hook was told instead")


def test_a_hook_is_told_of_a_hold_and_one_that_fails_harms_nothing(bench):
    told = bench.folder / "told.jsonl"
    run = bench.submit("held", notify={"command": ["/bin/sh", "-c", f"cat >> {told}; exit 3"]})
    bench.home.run(run).job.unlink()  # it cannot be started
    bench.submit("deaf", notify={"command": ["/bin/true"]})
    bench.start()
    bench.wait_state(run, "held")
    bench.wait(lambda: told.exists() and told.read_text(), "the hold was told")
    assert json.loads(told.read_text())["state"] == "held"
    bench.wait_state("deaf", "completed")
    bench.wait(lambda: bench.count("hook_failed") == 1, "the failing hook is in the log, the deaf one is not")
    assert {row["event"] for row in bench.faults()} == {"start_failed"}
    bench.home.log.write_text("")  # that was provoked


def test_every_ending_is_recorded_once_with_the_fixed_fields(bench):
    more = bench.folder / "experiments" / "runs.jsonl"
    bench.configure(records=str(more))
    bench.start()
    top = {"model": "/models/tiny-4b", "iters": 30, "batch_size": 4, "learning_rate": 1e-5}
    bench.drop("good.yaml", bench.job(top=top))
    good = bench.wait_state("good", "completed")["run_id"]
    bad = bench.submit("bad", "--exit", 9, recovery={"policies": str(_no_patience(bench))})
    bench.wait_state(bad, "failed")
    gone = bench.submit("gone", "--seconds", 600)
    bench.wait_noted(gone, "start")
    bench.stoker("cancel", gone)
    bench.wait_state(gone, "cancelled")
    bench.wait(lambda: len(bench.records()) == 3, "three endings")
    rows = {row["run_id"]: row for row in bench.records()}
    assert {run: row["status"] for run, row in rows.items()} == {good: "completed", bad: "failed", gone: "cancelled"}
    for row in rows.values():
        assert set(row) >= RECORD_FIELDS
        assert set(row["config"]) == {"batch_size", "lr", "seq_len", "grad_accum"}
        assert row["started_at"].endswith("Z")
    assert rows[good]["model"] == "tiny-4b"
    assert (rows[good]["config"]["batch_size"], rows[good]["config"]["lr"]) == (4, 1e-5)
    assert more.read_text() == bench.home.records.read_text()
    bench.stop()
    bench.start()
    assert len(bench.records()) == 3


def test_a_run_folder_without_a_row_is_admitted_at_the_start(bench):
    """The daemon died while it claimed a file: the folder is there with the file in it, the row is not."""
    folder = bench.home.run("claimed_20260101_0000").dir
    folder.mkdir()
    (folder / "submitted.yaml").write_bytes(bench.job(name="claimed"))
    wrong = bench.home.run("wrong_20260101_0000").dir
    wrong.mkdir()
    (wrong / "submitted.yaml").write_bytes(b"iters: 0\n")
    empty = bench.home.run("empty_20260101_0000").dir
    empty.mkdir()
    os.utime(empty, (1, 1))
    bench.start()
    assert bench.wait_state("claimed", "completed")["run_id"] == "claimed_20260101_0000"
    assert "1 or more" in bench.rejected("wrong_20260101_0000.yaml")
    assert not empty.exists()
    assert len(bench.runs()) == 1


def test_drain_ends_when_nothing_is_left_to_do(bench):
    for n in range(3):
        bench.submit(f"d{n}", "--seconds", 0.1)
    bench.submit("blocked", needs=["nobody"])
    bench.drop("dropped.yaml", bench.job())
    bench.start("--drain", ready=False)
    assert bench.finished() == 0
    states = bench.states()
    assert states.pop("blocked") == "blocked"
    assert set(states.values()) == {"completed"}
    assert len(states) == 4


def test_settings_that_are_wrong_are_named_and_the_daemon_does_not_start(bench):
    bench.home.settings.write_text("slots: 0\nslot: 1\n")
    done = bench.stoker("run")
    assert done.returncode == 2
    assert "slots" in done.stderr
    assert "slot:" in done.stderr
    assert "Traceback" not in done.stderr


def test_the_environment_of_a_job_reaches_its_trainer_and_is_recorded_by_name_only(bench):
    bench.configure(env={"FROM_SETTINGS": "s", "BOTH": "settings"})
    bench.start()
    program = "import json, os; json.dump(dict(os.environ), open('environment.json', 'w'))"
    job = {"trainer": "command", "command": [sys.executable, "-c", program], "env": {"SECRET": "hunter2", "BOTH": "j"}}
    bench.drop("env.yaml", json.dumps({"stoker": job}).encode() + b"\n")
    shown = bench.wait_state("env", "completed")
    run = bench.home.run(shown["run_id"])
    seen = json.loads((run.dir / "environment.json").read_text())
    assert (seen["SECRET"], seen["FROM_SETTINGS"], seen["BOTH"]) == ("hunter2", "s", "j")
    assert seen["PYTHONUNBUFFERED"] == "1"
    assert "STOKER_HOME" not in seen
    assert "hunter2" not in run.attempt(1).launch.read_text()
    assert "hunter2" not in json.dumps(shown)
    assert b"hunter2" not in bench.home.database.read_bytes()
