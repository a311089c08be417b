"""Adjustments: from the value in effect to the next one, and applied to a configuration."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stoker.recovery.adjust import apply, eased_from, propose
from stoker.recovery.policy import Adjust
from stoker.recovery.situation import Current

EVERYTHING = ("effective_batch", "data_order", "iterations", "schedule")
MICRO_BATCH = Adjust(field="micro_batch", divide=2, floor=1, preserves=EVERYTHING)
SEQUENCE = Adjust(field="max_seq_length", divide=2, floor=256, lossy=True, preserves=EVERYTHING)
CHECKPOINT = Adjust(field="grad_checkpoint", set=True, preserves=EVERYTHING)
RATE = Adjust(field="learning_rate", multiply=0.5, floor=0.01, ramp_steps=10, preserves=EVERYTHING[:3])


def current(**changes):
    values = {
        "batch_size": 8, "micro_batch": None, "grad_checkpoint": False, "max_seq_length": 2048,
        "lr_factor": 1.0, "learning_rate": 1e-4, "step": 60,
    }  # fmt: skip
    return Current(**(values | changes))


def proposed(change, now, target=0):
    return propose(change, now, target=target, reason="because")


@pytest.mark.parametrize(
    ("change", "now", "before", "after"),
    [
        (MICRO_BATCH, current(), 8, 4),
        (MICRO_BATCH, current(micro_batch=4), 4, 2),
        (MICRO_BATCH, current(batch_size=3), 3, 1),
        (MICRO_BATCH, current(batch_size=5), 5, 2),
        (CHECKPOINT, current(), False, True),
        (SEQUENCE, current(), 2048, 1024),
        (SEQUENCE, current(max_seq_length=300), 300, 256),
        (RATE, current(), 1e-4, 5e-5),
        (RATE, current(learning_rate=None), 1.0, 0.5),
        (RATE, current(learning_rate=None, lr_factor=0.5), 0.5, 0.25),
    ],
)
def test_the_next_value(change, now, before, after):
    made = proposed(change, now)
    assert (made.field, made.from_, made.to) == (change.field, before, after)
    assert made.preserves == tuple(change.preserves)


@pytest.mark.parametrize(
    ("change", "now"),
    [
        (MICRO_BATCH, current(micro_batch=1)),
        (MICRO_BATCH, current(batch_size=1)),
        (CHECKPOINT, current(grad_checkpoint=True)),
        (SEQUENCE, current(max_seq_length=256)),
        (SEQUENCE, current(max_seq_length=128)),
        (RATE, current(lr_factor=0.015)),
    ],
)
def test_nothing_left_to_change(change, now):
    assert proposed(change, now) is None


def test_a_learning_rate_changes_at_the_step_of_the_target():
    made = proposed(RATE, current(grad_accumulation_steps=8), target=60)
    assert made.launch == {"from_step": 7, "factor": 0.5, "ramp_steps": 10}


def test_only_shorter_sequences_are_lossy():
    assert proposed(SEQUENCE, current()).lossy
    assert not proposed(MICRO_BATCH, current()).lossy


@given(st.integers(1, 10_000))
def test_halving_ends_at_one(batch_size):
    values = [batch_size]
    while (made := proposed(MICRO_BATCH, current(batch_size=values[-1]))) is not None:
        values.append(made.to)
    assert values[-1] == 1
    assert values == sorted(set(values), reverse=True)


CONFIG = {"batch_size": 8, "max_seq_length": 2048, "grad_checkpoint": False, "learning_rate": 1e-4}


def test_what_the_trainer_reads_and_what_is_a_launch_option():
    records = [proposed(change, current(), target=60) for change in (MICRO_BATCH, CHECKPOINT, SEQUENCE, RATE)]
    applied = apply(CONFIG, records)
    assert applied.config == CONFIG | {"max_seq_length": 1024, "grad_checkpoint": True}
    assert applied.changed == {"max_seq_length": 1024, "grad_checkpoint": True}
    assert applied.micro_batch == 4
    assert applied.learning_rate == ({"from_step": 60, "factor": 0.5, "ramp_steps": 10},)


def test_nothing_recorded_changes_nothing():
    applied = apply(CONFIG, [])
    assert (applied.config, applied.changed, applied.micro_batch, applied.learning_rate) == (CONFIG, {}, None, ())


def test_the_configuration_given_is_not_touched():
    before = dict(CONFIG)
    apply(CONFIG, [proposed(SEQUENCE, current())])
    assert before == CONFIG


def test_the_stored_form_applies_like_the_record():
    records = [proposed(change, current(), target=60) for change in (MICRO_BATCH, SEQUENCE, RATE)]
    stored = json.loads(json.dumps([record.record() for record in records]))
    assert apply(CONFIG, stored) == apply(CONFIG, records)


def test_the_last_record_of_a_field_wins():
    first = proposed(MICRO_BATCH, current())
    second = proposed(MICRO_BATCH, current(micro_batch=4))
    assert apply(CONFIG, [first, second]).micro_batch == 2


def test_an_earlier_multiplier_does_not_begin_after_a_later_one():
    """The value in effect that was recorded for the later one includes the earlier one."""
    early, late = proposed(RATE, current(), target=60), proposed(RATE, current(lr_factor=0.5), target=40)
    assert [factor["from_step"] for factor in apply(CONFIG, [early, late]).learning_rate] == [40, 40]
    assert [factor["from_step"] for factor in apply(CONFIG, [late, early]).learning_rate] == [40, 60]


def test_an_unknown_field_is_refused():
    with pytest.raises(ValueError, match="num_layers"):
        apply(CONFIG, [{"field": "num_layers", "to": 4}])


def test_a_later_start_from_before_a_change_of_the_learning_rate_moves_it_there():
    """Otherwise the steps before it would be trained once more with the rate that was too high."""
    config = CONFIG | {"grad_accumulation_steps": 2}
    record = {"attempt": 3, **proposed(RATE, current(grad_accumulation_steps=2), target=60).record()}
    for starts, step in (
        ({1: 0, 2: 60, 3: 60}, 30),
        ({1: 0, 2: 60, 3: 60, 4: 80}, 30),
        ({1: 0, 2: 60, 3: 60, 4: 40}, 20),
        ({1: 0, 2: 60, 3: 60, 4: 0, 5: 90}, 0),
    ):
        assert [factor["from_step"] for factor in apply(config, [record], starts).learning_rate] == [step]
        assert eased_from([record], starts, 2) == 2 * step


def test_a_learning_rate_that_was_never_lowered():
    assert eased_from([{"attempt": 2, **proposed(SEQUENCE, current()).record()}], {1: 0, 2: 20}, 1) is None


def test_what_was_changed_when_the_job_was_accepted_is_in_the_configuration_already():
    records = [
        {"attempt": 1, "field": "stoker.checkpoint.every", "from": 50, "to": 3},
        {"attempt": 1, "field": "save_every", "from": 100, "to": 20},
    ]
    assert apply(CONFIG | {"save_every": 20}, records).changed == {}
