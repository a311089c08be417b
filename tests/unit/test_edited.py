"""A person's changes of a run that has begun: the records they make, what becomes of two of them, and the labels."""

import pytest

from stoker.recovery.adjust import apply, eased_from, lr_factor
from stoker.recovery.edited import edit_record, keeps_exact, labels, with_edit
from stoker.recovery.situation import Adjustment
from stoker.supervisor.trainer.labels import WARM, code_of

CONFIG = {"batch_size": 8, "max_seq_length": 2048, "grad_checkpoint": False, "learning_rate": 1e-3, "iters": 40}
ADJUSTED = ("micro_batch", "learning_rate", "grad_checkpoint", "max_seq_length")
STARTS = {1: 0, 2: 40}


def record(field, before, after, *, attempt=2, from_step=40):
    return edit_record(field, before, after, attempt=attempt, in_config=field not in ADJUSTED, from_step=from_step)


def lowered(attempt=2, *, before=1e-3, after=5e-4):
    launch = {"from_step": 20, "factor": after / before, "ramp_steps": 10}
    return {"attempt": attempt, **Adjustment("learning_rate", before, after, "nan", (), False, launch).record()}


@pytest.mark.parametrize(
    ("field", "before", "after", "exact", "label"),
    [
        ("iters", 40, 80, True, None),
        ("save_every", 10, 20, True, None),
        ("steps_per_report", 10, 20, True, None),
        ("stoker.priority", 0, 5, True, None),
        ("stoker.env.A", None, "(set by you)", True, None),
        ("steps_per_eval", 7, 20, False, "edited: steps_per_eval 7 -> 20 at iteration 40"),
        ("val_batches", 25, -1, False, "edited: val_batches 25 -> -1 at iteration 40"),
        ("micro_batch", 8, 4, False, "micro_batch: 8 -> 4 at iteration 40"),
        ("learning_rate", 1e-3, 5e-4, False, "learning_rate: 0.001 -> 0.0005 at iteration 40"),
        ("grad_checkpoint", False, True, False, "grad_checkpoint: false -> true at iteration 40"),
        ("max_seq_length", 2048, 1024, False, "max_seq_length: 2048 -> 1024 at iteration 40"),
    ],
)
def test_what_a_change_does_to_the_promise_of_exactness(field, before, after, exact, label):
    made = record(field, before, after)
    assert made["reason"] == "edited by you"
    assert (made["attempt"], made["field"], made["from"], made["to"]) == (2, field, before, after)
    assert keeps_exact(made) is exact
    assert labels([made], STARTS) == ([label] if label else [])
    if label:
        assert code_of(label) not in WARM


def test_what_is_not_preserved_is_not_claimed():
    assert "iterations" not in record("iters", 40, 80)["preserves"]
    assert "schedule" not in record("learning_rate", 1e-3, 1e-4)["preserves"]
    assert "data_order" not in record("steps_per_eval", 7, 20)["preserves"]
    assert record("max_seq_length", 2048, 64)["lossy"]
    assert len(record("grad_checkpoint", False, True)["preserves"]) == 4


def test_edits_apply_as_recovery_s_own_adjustments_do():
    records = [
        record("micro_batch", 8, 2), record("grad_checkpoint", False, True), record("max_seq_length", 2048, 3000),
        record("learning_rate", 1e-3, 2e-3), record("iters", 20, 40), record("steps_per_eval", 7, 20),
    ]  # fmt: skip
    applied = apply(CONFIG, records)
    assert applied.micro_batch == 2
    assert applied.changed == {"grad_checkpoint": True, "max_seq_length": 3000}
    assert applied.learning_rate == ({"from_step": 40, "factor": 2.0, "ramp_steps": 0},)
    assert applied.config["iters"] == 40


def test_two_edits_that_no_attempt_lies_between_are_one_change():
    records = with_edit([record("learning_rate", 1e-3, 5e-4)], record("learning_rate", 5e-4, 2e-4))
    assert [(r["from"], r["to"]) for r in records] == [(1e-3, 2e-4)]
    assert records[0]["launch"]["factor"] == pytest.approx(0.2)
    assert with_edit(records, record("learning_rate", 2e-4, 1e-3)) == []


def test_edits_with_an_attempt_between_them_are_two():
    records = with_edit([record("steps_per_eval", 7, 20)], record("steps_per_eval", 20, 7, attempt=3))
    assert [(r["attempt"], r["from"], r["to"]) for r in records] == [(2, 7, 20), (3, 20, 7)]
    assert len(labels(records, {1: 0, 2: 40, 3: 60})) == 2
    assert apply(CONFIG | {"steps_per_eval": 7}, records).changed == {}


def test_an_edit_does_not_touch_the_record_of_recovery_it_comes_after():
    records = with_edit([lowered()], record("learning_rate", 5e-4, 1e-3))
    assert [(r["from"], r["to"]) for r in records] == [(1e-3, 5e-4), (5e-4, 1e-3)]


def test_what_a_person_sets_is_where_recovery_starts_from():
    """Its floor counts its own multipliers only, and a rate that a person lowered says nothing about spoiled weights."""
    records = [lowered(), record("learning_rate", 5e-4, 1e-5, attempt=3)]
    assert lr_factor(records[:1]) == 0.5
    assert lr_factor(records) == 1.0
    assert lr_factor([*records, lowered(4, before=1e-5, after=2e-6)]) == pytest.approx(0.2)
    assert eased_from(records, STARTS | {3: 60}, 1) == 20
    assert eased_from(records[1:], STARTS | {3: 60}, 1) is None
    assert lr_factor([edit_record("learning_rate", 1e-3, 1e-4, attempt=2, in_config=True)]) == 1.0


def test_a_label_names_the_earliest_iteration_that_the_change_held_from():
    """A later attempt may have gone back to before it."""
    made = record("max_seq_length", 2048, 1024)
    assert labels([made], STARTS | {3: 20, 4: 60}) == ["max_seq_length: 2048 -> 1024 at iteration 20"]
    assert labels([made], {1: 0}) == ["max_seq_length: 2048 -> 1024"]
    assert labels([made, made], STARTS) == labels([made], STARTS)
    assert labels([lowered()], STARTS) == ["learning_rate: 0.001 -> 0.0005 at iteration 40"]
