"""The verbs on a real store: what the daemon writes is what people read."""

import json

import pytest
import typer
from typer.testing import CliRunner

from stoker.supervisor.cli.explain import explain
from stoker.supervisor.cli.runs import runs
from stoker.supervisor.cli.show import show
from stoker.supervisor.cli.status import status
from stoker.supervisor.clock import SystemClock
from stoker.supervisor.paths import Home
from stoker.supervisor.store.read import Reader
from stoker.supervisor.store.write import Store

RUN = {"run_id", "name", "state", "attempt", "iteration", "iters", "loss", "ettr", "eta_s", "reason"}
SHOW = RUN | {"config", "exact", "adjustments", "attempts", "final"}
ATTEMPT = {
    *("n", "started_at", "ended_at", "from_iteration", "to_iteration", "resume", "checkpoint", "exit_code", "signal"),
    *("cause", "findings", "plan", "lost_iterations"),
}
JOB = json.dumps({"config": {"model": "m", "batch_size": 8}, "provenance": {}, "stoker": {}})
NOW = SystemClock().wall()


def _attempt(n, **values):
    return {
        "run_id": "sft_1",
        "n": n,
        "started_at": NOW - 7200 + 100 * n,
        "boot_id": "b",
        "from_iteration": 0,
        "resume": "fresh",
        **values,
    }


@pytest.fixture(name="home")
def _home(tmp_path):
    """A run that ran out of memory once and trains again, one that is held, one that failed."""
    home = Home(tmp_path / "home")
    home.create()
    store = Store(home, SystemClock())
    common = {"trainer": "mlx-lm", "job": JOB, "iters": 100}
    change = {
        "field": "micro_batch",
        "from": 8,
        "to": 4,
        "reason": "smaller rows",
        "preserves": ["schedule"],
        "lossy": False,
    }
    store.insert_run({
        **common, "run_id": "sft_1", "name": "sft", "state": "running", "attempt": 2, "iteration": 20, "exact": 0,
        "started_at": NOW - 7200, "adjustments": json.dumps([{"attempt": 2, **change}]),
    })  # fmt: skip
    store.insert_run({**common, "run_id": "dpo_1", "name": "dpo", "state": "held", "reason": "paused by you"})
    store.insert_run({**common, "run_id": "old_1", "name": "old", "state": "failed", "ended_at": NOW - 1e6})
    finding = {"rule": "oom.metal", "cause": "oom", "role": "root", "file": "train.log", "line": 2, "text": "out of it"}
    diagnosis = {"cause": "oom", "confidence": 0.97, "simulated": True, "findings": [finding], "missing": []}
    plan = {
        "action": "resume",
        "row": "oom/halve",
        "reason": "memory ran out",
        "adjustment": change,
        "numbers": {"n": 1},
    }
    with store.transaction():
        store.insert_attempt(**_attempt(
            1, ended_at=NOW - 7000, to_iteration=24, exit_code=1, cause="oom", diagnosis=json.dumps(diagnosis),
            plan=json.dumps(plan), choice=json.dumps({"chosen": None, "rejected": []}), lost_iterations=4, train_s=100.0,
        ))  # fmt: skip
        store.insert_attempt(**_attempt(2, from_iteration=20, resume="exact", checkpoint="00000020-a1"))
    store.close()
    log = home.run("sft_1").attempt(1).log
    log.parent.mkdir(parents=True)
    log.write_text("Iter 24\nout of it\nend\n")
    second = home.run("sft_1").attempt(2)
    second.dir.mkdir()
    second.heartbeat.write_text(json.dumps({"v": 1, "phase": "validate", "iteration": 57, "t": NOW, "pid": 1}))
    second.metrics.write_text(
        '{"kind":"train","iteration":50,"train_loss":1.5,"iterations_per_second":0.5,"tokens_per_second":500,"peak_memory":2}\n'
    )
    return home


@pytest.fixture(name="stoker")
def _stoker(home):
    app = typer.Typer()
    for verb in (status, runs, show, explain):
        app.command()(verb)

    def stoker(*arguments):
        result = CliRunner().invoke(app, arguments, obj=home)
        assert result.exception is None, result.exception
        return result.stdout

    return stoker


def test_the_json_shapes_of_the_contract(stoker):
    page = json.loads(stoker("status", "--json"))
    assert set(page["daemon"]) >= {"running", "pid"}
    assert [run["run_id"] for run in page["runs"]] == ["sft_1", "dpo_1"]
    every = json.loads(stoker("runs", "--json"))
    assert [run["run_id"] for run in every["runs"]] == ["old_1", "dpo_1", "sft_1"]
    assert all(set(run) >= RUN for run in (*page["runs"], *every["runs"]))
    shown = json.loads(stoker("show", "sft", "--json"))
    assert set(shown) >= SHOW
    assert all(set(attempt) >= ATTEMPT for attempt in shown["attempts"])
    assert set(shown["attempts"][0]["findings"][0]) >= {"rule", "file", "line", "text"}
    assert set(shown["adjustments"][0]) >= {"attempt", "field", "from", "to", "reason", "preserves"}


def test_status_with_the_daemon_down_shows_what_would_be_lost(stoker):
    text = stoker("status")
    assert "daemon not running · 1 running, 1 held" in text
    assert "57/100" in text
    assert "validating; would lose 57 iterations" in text
    assert "stoker release dpo_1" in text


def test_show_and_explain_tell_the_same_story(stoker):
    shown = " ".join(stoker("show", "sft").split())
    assert "20 → 57" in shown
    assert "oom (simulated)" in shown
    assert "→ resumed from 00000020-a1, micro_batch 8 → 4" in shown
    told = " ".join(stoker("explain", "sft_1").split())
    assert "> 2 │ out of it" in told
    assert "policy oom/halve: memory ran out" in told
    assert "done resumed from 00000020-a1" in told


def test_an_empty_home_reads_as_empty(tmp_path):
    app = typer.Typer()
    app.command()(status)
    app.command()(runs)
    for verb, words in (("status", "daemon not running · no runs"), ("runs", "no runs")):
        result = CliRunner().invoke(app, [verb], obj=Home(tmp_path / "none"))
        assert result.exception is None
        assert words in result.stdout


def test_a_living_run_is_called_what_its_trainer_says(home):
    """The store learns the label when the attempt ends; the trainer writes it when it begins."""
    row = {"kind": "start", "resume": "warm", "label_reasons": ["unproved_mlx_lm: mlx-lm 0.99 was not reviewed"]}
    metrics = home.run("sft_1").attempt(2).metrics
    metrics.write_text(json.dumps(row) + "\n" + metrics.read_text())
    with Reader(home) as reader:
        shown = reader.show("sft_1")
        (listed,) = (run for run in reader.status()["runs"] if run["run_id"] == "sft_1")
    assert (shown["exact"], listed["exact"]) == (False, False)
    assert shown["label_reasons"] == row["label_reasons"]
    assert [attempt["resume"] for attempt in shown["attempts"]] == ["fresh", "warm"]
    assert [attempt["label_reasons"] for attempt in shown["attempts"]] == [None, row["label_reasons"]]
