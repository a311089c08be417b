"""`stoker edit` by the installed command under real daemons: each state, wrong words, no daemon, a crash in between."""

import json
import time

import pytest
import yaml

from stoker.supervisor.cli.asking import ask
from stoker.supervisor.store.write import put_command

LONG = ("--seconds", 600)


@pytest.fixture
def gate(tmp_path):
    return tmp_path / "gate"


def _submit(bench, name, *options, top=None, **stoker):
    """Submit a job whose trainer notes the iters it was started with: as its last word, which it does not know."""
    job = yaml.safe_load(bench.job(*options, top={"iters": 100, **(top or {})}, **stoker))
    job["stoker"]["command"].append("--iters={iters}")
    done = bench.stoker("submit", bench.write(f"{name}.yaml", yaml.safe_dump(job).encode()))
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def _act(bench, verb, run, **payload):
    """Act on a run without a process for it; what is under test here goes through the installed command."""
    return ask(bench.home, verb, {"run": run, **payload})


def _argv(bench, run, n):
    return json.loads(bench.home.run(run).attempt(n).launch.read_bytes())["argv"]


def _no_patience(bench):
    text = (
        "version: 1\nrows:\n"
        "  - causes: [unknown]\n    why: A test has no time.\n    rungs:\n"
        "      - {id: give-up, action: fail, say: given up}\n"
        "    examples:\n      - {given: {}, expect: {rung: give-up, action: fail}}\n"
    )
    return str(bench.write("policies.yaml", text.encode()))


def test_a_running_run_is_refused_and_a_paused_one_goes_on_with_the_new_values(bench, gate):
    bench.start()
    run = _submit(bench, "r", "--until", gate)
    submitted = bench.home.run(run).submitted.read_bytes()
    bench.wait_noted(run, "start")
    refused = bench.stoker("edit", run, "iters=200")
    assert refused.returncode == 1
    assert "stoker pause" in refused.stderr
    _act(bench, "pause", run)
    bench.wait_state(run, "held")
    done = bench.stoker("edit", run, "iters=200", "stoker.priority=4")
    assert done.returncode == 0, done.stderr
    assert f"stoker resume {run}" in done.stdout
    again = bench.stoker("edit", run, "iters=300", "--json")
    assert set(json.loads(again.stdout)) == {"run_id", "state", "text"}
    held = bench.show(run)
    assert (held["state"], held["reason"]) == ("held", "paused by you")
    assert [(a["field"], a["from"], a["to"]) for a in held["adjustments"]] == [
        ("stoker.priority", 0, 4),
        ("iters", 100, 300),
    ]
    gate.touch()
    _act(bench, "resume", run)
    bench.wait_state(run, "completed")
    assert _argv(bench, run, 1)[-1] == "--iters=100"
    assert _argv(bench, run, 2)[-1] == "--iters=300"
    assert bench.home.run(run).submitted.read_bytes() == submitted
    assert bench.events(run).count("edit") == 2
    for verb in ("show", "explain"):
        assert "iters 100 → 300" in bench.stoker(verb, run).stdout
    explained = json.loads(bench.stoker("explain", run, "--json").stdout)
    assert explained["adjustments"][-1]["reason"] == "edited by you"
    refused = bench.stoker("edit", run, "iters=400")
    assert refused.returncode == 1
    assert "start from the beginning" in refused.stderr


def test_queued_and_blocked_runs_take_the_change_where_they_stand(bench, gate):
    bench.start()
    blocker = _submit(bench, "blocker", "--until", gate)
    low, high = _submit(bench, "low", needs=["nobody"]), _submit(bench, "high")
    bench.wait_state(low, "blocked")
    _act(bench, "edit", low, changes=["stoker.needs=[high]", "iters=150"])
    _act(bench, "edit", high, changes=["iters=160"])
    bench.wait(lambda: high in bench.show(low)["reason"], "it waits for the other one now")
    assert bench.show(high)["state"] == "queued"
    assert bench.show(high)["adjustments"] == []
    assert bench.show(high)["provenance"]["iters"] == "edited by you"
    gate.touch()
    bench.wait_state(low, "completed")
    assert [life.run for life in bench.lives()] == [blocker, high, low]
    assert [_argv(bench, run, 1)[-1] for run in (low, high)] == ["--iters=150", "--iters=160"]


def test_a_waiting_run_goes_on_waiting(bench):
    bench.start()
    run = _submit(bench, "w", "--exit", 9, "--text", "ConnectionError: Temporary failure in name resolution")
    before = bench.wait_state(run, "waiting", "failed", "held")
    assert before["state"] == "waiting", before["reason"]
    assert _act(bench, "edit", run, changes=["iters=200"])["state"] == "waiting"
    after = bench.show(run)
    assert (after["state"], after["wake_at"], after["reason"]) == ("waiting", before["wake_at"], before["reason"])
    _act(bench, "cancel", run)


def test_failed_and_cancelled_runs_stay_so_until_they_are_retried(bench):
    bench.start()
    policies = {"policies": _no_patience(bench)}
    failed = _submit(bench, "f", "--exit", 9, recovery=policies)
    bench.wait_state(failed, "failed")
    cancelled = _submit(bench, "c", *LONG)
    bench.wait_noted(cancelled, "start")
    _act(bench, "cancel", cancelled)
    bench.wait_state(cancelled, "cancelled")
    records = len(bench.records())
    for run, state in ((failed, "failed"), (cancelled, "cancelled")):
        answer = _act(bench, "edit", run, changes=["iters=200"])
        assert answer["text"].endswith(f"then: stoker retry {run}")
        assert bench.show(run)["state"] == state
    assert len(bench.records()) == records
    _act(bench, "retry", failed)
    bench.wait_noted(failed, "end", times=2)
    assert _argv(bench, failed, 2)[-1] == "--iters=200"


def test_without_a_daemon_wrong_words_are_refused_and_an_edit_is_kept(bench):
    run = _submit(bench, "x", *LONG)
    unknown = bench.stoker("edit", "nobody", "iters=200")
    assert unknown.returncode == 4
    assert bench.stoker("edit", run).returncode == 2
    down = bench.stoker("edit", run, "itres=200", "seed=4")
    kept = bench.stoker("edit", run, "iters=200")
    assert kept.returncode == 3
    assert "will be carried out" in kept.stderr
    put_command(bench.home.database, time.time(), "pause", {"run": run})
    bench.start()
    bench.wait_state(run, "held")
    up = bench.stoker("edit", run, "itres=200", "seed=4", "save_every=0")
    for refused in (down, up):
        assert refused.returncode == 2
        assert "did you mean iters?" in refused.stderr
        assert "seed: a change of it is a new job: stoker submit a copy" in refused.stderr
        assert "can be edited: iters" in refused.stderr
        assert "Traceback" not in refused.stderr
    assert "save_every: expected 1 or more" in up.stderr
    assert bench.show(run)["iters"] == 200


def test_the_environment_is_edited_and_its_values_are_written_down_nowhere_else(bench, gate):
    bench.start()
    run = _submit(bench, "e", "--until", gate, env={"KEPT": "k", "CHANGED": "old"})
    bench.wait_noted(run, "start")
    _act(bench, "pause", run)
    bench.wait_state(run, "held")
    words = ["stoker.env.CHANGED=hunter2", "stoker.env.NEW=hunter2"]
    done = bench.stoker("edit", run, *words)
    assert done.returncode == 0, done.stderr
    assert bench.stoker("edit", run, *words, "iters=1").returncode == 2
    frozen = yaml.safe_load(bench.home.run(run).job.read_bytes())["stoker"]["env"]
    assert frozen == {"KEPT": "k", "CHANGED": "hunter2", "NEW": "hunter2"}
    bench.stop()  # the write-ahead log goes into the database
    paths = bench.home.run(run)
    for path in (bench.home.database, bench.home.log, paths.events):
        assert b"hunter2" not in path.read_bytes(), path
    assert "hunter2" not in done.stdout + json.dumps(bench.show(run))


def test_a_crash_between_the_file_and_the_row_is_repeated_with_the_same_result(bench, gate):
    bench.start(failpoints="daemon.edit.written:kill@1")
    run = _submit(bench, "once", "--until", gate)
    bench.wait_noted(run, "start")
    _act(bench, "pause", run)
    bench.wait_state(run, "held")
    # not through the command line, which would wait for an answer that does not come
    payload = {"run": run, "changes": ["iters=200", "stoker.checkpoint.every=10m", "stoker.env.A=b"]}
    put_command(bench.home.database, time.time(), "edit", payload)
    bench.home.wake.touch()
    bench.finished()
    job = bench.home.run(run).job.read_bytes()
    assert b"iters: 200" in job
    assert bench.show(run)["iters"] == 100
    bench.start()
    bench.wait(lambda: bench.show(run)["iters"] == 200, "the edit is made")
    shown = bench.show(run)
    assert [(a["field"], a["from"], a["to"]) for a in shown["adjustments"]] == [
        ("iters", 100, 200),
        ("stoker.checkpoint.every", "auto", "10m"),
        ("stoker.env.A", None, "(set by you)"),
    ]
    assert bench.events(run).count("edit") == 1
    assert bench.home.run(run).job.read_bytes() == job
