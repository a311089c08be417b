"""A completed run that is given more iterations: its weights are those of a stock run that had them from the start."""

import pytest
from harness_training import LORA, Stock, causes, warm_up

from stoker.supervisor.demo.tiny import make_tiny

pytestmark = pytest.mark.training


def test_a_completed_run_goes_on_exactly_when_iters_are_raised(works, tmp_path):
    """It ends in the middle of a report and with a validation that it would not make there with more iterations."""
    tiny = make_tiny(tmp_path / "tiny", examples=40)  # ten batches an epoch: the second one begins before the first end
    warm_up(tmp_path / "warm", "lora", tiny, LORA)
    works.start()
    run = works.train("more", tiny, LORA, {"iters": 12})
    first = works.ended(run)

    edited = works.stoker("edit", run, "iters=24")
    assert edited.returncode == 0, edited.stderr
    assert f"{run} is queued: iters 12 → 24; it goes on from 00000012-a1" in edited.stdout
    works.wait(lambda: works.show(run)["attempt"] == 2, "attempt 2 starts")
    assert works.show(run)["final"] is None

    shown = works.ended(run)
    assert causes(shown) == ["healthy", "healthy"]
    assert [(a["from_iteration"], a["to_iteration"], a["resume"]) for a in shown["attempts"]] == [
        (0, 12, "fresh"),
        (12, 24, "exact"),
    ]
    assert shown["exact"] is True
    assert shown["label_reasons"] == []
    assert [(a["attempt"], a["field"], a["from"], a["to"]) for a in shown["adjustments"]] == [(2, "iters", 12, 24)]
    assert shown["final"]["sha256"] != first["final"]["sha256"]
    assert shown["final"]["sha256"] == Stock(tmp_path / "stock").sha256(works.paths(run).attempt(2).config)
    assert [(row["run_id"], row["iters_completed"]) for row in works.records()] == [(run, 12), (run, 24)]
