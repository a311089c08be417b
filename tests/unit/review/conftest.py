"""Read models as the store gives them: one run under way, one that went through three faults, one held, one failed."""

import pytest

NOW = 1_771_000_000.0  # 2026-02-13T16:26:40Z

EXACT = "a" * 64


def _run(**values):
    return {
        "run_id": "sft-4b_20260213_1430",
        "name": "sft-4b",
        "state": "running",
        "attempt": 2,
        "iteration": 12340,
        "iters": 20000,
        "loss": 1.2345,
        "ettr": 0.9871,
        "eta_s": 190_000.0,
        "reason": "",
        "model": "qwen3-4b-base",
        "created_at": "2026-02-13T14:30:00Z",
        "started_at": "2026-02-13T14:30:01Z",
        "ended_at": None,
        "priority": 0,
        "at_risk_iterations": 340,
        "at_risk_s": 7500.0,
        "tokens_per_second": 543.2,
        "peak_memory": 41.2,
        "last_checkpoint": "00012000-a2",
        **values,
    }


@pytest.fixture(name="make")
def _make():
    return _run


@pytest.fixture(name="now")
def _now():
    return NOW


@pytest.fixture(name="page")
def _page():
    """Four runs in four states."""
    return {
        "daemon": {"running": True, "pid": 4242},
        "runs": [
            _run(run_id="q_1", name="q", state="queued", attempt=0, iteration=0, loss=None, ettr=None, eta_s=None),
            _run(),
            _run(
                run_id="dpo-32b_20260212_0930",
                name="dpo-32b",
                state="held",
                attempt=3,
                iteration=400,
                iters=2000,
                eta_s=None,
                reason="disk_full: 3 GB free on /, a checkpoint needs 192 GB",
                release="disk",
            ),
            _run(
                run_id="bad_1",
                name="bad",
                state="failed",
                attempt=5,
                iteration=61,
                iters=100,
                loss="nan",
                reason="nan_loss at iteration 61 five times; the data at step 61 is the likely reason",
                ended_at="2026-02-13T14:13:20Z",
            ),
        ],
    }


@pytest.fixture(name="story_of")
def _story_of():
    """A completed run: killed, out of memory, a damaged checkpoint quarantined. `show` and `decisions`."""
    show = _run(
        state="completed",
        attempt=3,
        iteration=60,
        iters=60,
        loss=1.1,
        eta_s=None,
        ended_at="2026-02-13T16:44:00Z",
        config={"model": "/models/qwen3-4b-base", "batch_size": 8, "learning_rate": 2.8e-5, "grad_checkpoint": True},
        exact=False,
        adjustments=[
            {
                "attempt": 3,
                "field": "micro_batch",
                "from": 8,
                "to": 4,
                "reason": "out of memory with rows of 8",
                "preserves": ["effective_batch", "data_order", "schedule", "iterations"],
            }
        ],
        attempts=[
            {
                "n": 1,
                "started_at": "2026-02-13T14:30:01Z",
                "ended_at": "2026-02-13T14:50:00Z",
                "from_iteration": 0,
                "to_iteration": 48,
                "resume": "fresh",
                "checkpoint": None,
                "exit_code": None,
                "signal": "SIGKILL",
                "cause": "killed",
                "findings": [{"rule": "signal.kill", "file": "exit.json", "line": 1, "text": "SIGKILL"}],
                "plan": "resume",
                "lost_iterations": 8,
            },
            {
                "n": 2,
                "started_at": "2026-02-13T14:50:01Z",
                "ended_at": "2026-02-13T15:10:00Z",
                "from_iteration": 40,
                "to_iteration": 55,
                "resume": "exact",
                "checkpoint": "00000040-a1",
                "exit_code": 1,
                "signal": None,
                "cause": "oom",
                "findings": [
                    {"rule": "trace.last", "file": "train.log", "line": 4, "text": "Traceback", "role": "cascade"},
                    {
                        "rule": "oom.metal",
                        "file": "train.log",
                        "line": 6,
                        "text": "RuntimeError: [METAL] Insufficient Memory",
                        "role": "root",
                        "simulated": True,
                    },
                ],
                "plan": "resume",
                "lost_iterations": 5,
            },
            {
                "n": 3,
                "started_at": "2026-02-13T15:10:01Z",
                "ended_at": "2026-02-13T16:44:00Z",
                "from_iteration": 50,
                "to_iteration": 60,
                "resume": "exact",
                "checkpoint": "00000050-a2",
                "exit_code": 0,
                "signal": None,
                "cause": "healthy",
                "findings": [],
                "plan": "complete",
                "lost_iterations": 0,
            },
        ],
        final={"adapter": "/Users/me/models/adapters/adapters.safetensors", "sha256": EXACT, "loss": 1.1},
    )
    decisions = [
        {
            "attempt": 1,
            "cause": "killed",
            "confidence": 0.9,
            "simulated": False,
            "findings": show["attempts"][0]["findings"],
            "row": "killed.resume",
            "plan": "resume",
            "reason": "killed from outside; nothing to change",
            "adjustment": None,
            "checkpoint": {
                "chosen": "00000040-a1",
                "rejected": [{"name": "00000045-a1", "problems": ["weights.safetensors: sha256 differs"]}],
            },
            "numbers": {"peak_memory": 41.2, "free_disk_gb": 300},
            "at": "2026-02-13T14:50:00Z",
        },
        {
            "attempt": 2,
            "cause": "oom",
            "confidence": 0.99,
            "simulated": True,
            "findings": show["attempts"][1]["findings"],
            "row": "oom.micro_batch",
            "plan": "resume",
            "reason": "memory ran out; fewer rows at a time change nothing else",
            "adjustment": show["adjustments"][0],
            "checkpoint": {"chosen": "00000050-a2", "rejected": []},
            "numbers": {},
            "at": "2026-02-13T15:10:00Z",
        },
    ]
    return show, decisions


@pytest.fixture(name="printed")
def _printed(capsys):
    """Print a rich renderable as a pipe sees it and return the text."""

    def printed(renderable):
        from stoker.supervisor.review.console import show

        show(renderable)
        return capsys.readouterr().out

    return printed
