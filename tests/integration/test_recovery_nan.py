"""Real training whose learning rate is too high for float16: no drill, a real nan, and what becomes of the run."""

import json

import pytest
from harness_training import FULL, LORA, causes, warm_up

from stoker.recovery.checkpoint.verify import verify
from stoker.supervisor.cli.asking import ask
from stoker.supervisor.demo.tiny import make_tiny

pytestmark = pytest.mark.training

# Adam's default eps, 1e-8, is 0 in float16 and gives nan at any learning rate.
TOO_HIGH = FULL | {
    "optimizer_config": {"adam": {"eps": 1e-4}},
    "learning_rate": 0.04,
    "iters": 60,
    "grad_accumulation_steps": 1,
    "seed": 7,
    "steps_per_report": 1,
    "val_batches": 0,
}


@pytest.fixture(scope="module")
def half(tmp_path_factory):
    """A model of float16 weights."""
    folder = tmp_path_factory.mktemp("half")
    made = make_tiny(folder, dtype="float16")
    warm_up(folder / "full", "float16", made, TOO_HIGH, {"learning_rate": 0.02})
    return made


def assert_halved_and_completed(works, shown):
    """Named, replayed exactly once before anything was changed, halved, completed with finite weights."""
    first, replayed = shown["attempts"][:2]
    assert causes(shown) == ["nan_loss"] * (len(shown["attempts"]) - 1) + ["healthy"]
    assert replayed["resume"] in {"exact", "fresh"}
    assert replayed["to_iteration"] == first["to_iteration"]
    assert "replaying once" in first["plan"]
    assert "deterministic" in replayed["plan"]
    change = shown["adjustments"][0]
    assert (change["attempt"], change["field"]) == (3, "learning_rate")
    assert change["to"] == pytest.approx(change["from"] / 2)
    assert shown["exact"] is False
    verdict = verify(works.paths(shown["run_id"]).adapter)
    assert verdict.ok, verdict.problems


def test_float16_that_goes_nan_is_trained_at_half_the_learning_rate(half, works):
    """A real nan, no drill. The checkpoints of the iterations before it are finite, and spoiled all the same."""
    works.start()
    run = works.train("too-high", half, TOO_HIGH)
    well = works.train("half-of-it", half, TOO_HIGH, {"learning_rate": 0.02})

    shown = works.ended(run)
    assert_halved_and_completed(works, shown)
    assert len(shown["adjustments"]) == 1
    assert shown["adjustments"][0]["from"] == 0.04
    assert json.loads(works.stoker("show", run, "--json").stdout)["adjustments"] == shown["adjustments"]
    onset = shown["attempts"][0]["to_iteration"] + 1
    assert f"the loss became nan at iteration {onset}" in shown["attempts"][0]["plan"]
    assert len(shown["attempts"]) <= 5
    assert f"nan_loss: train loss is nan at iteration {onset}" in json.dumps(shown["attempts"][0]["findings"])
    assert shown["loss"] < 5.8
    control = works.ended(well)
    assert causes(control) == ["healthy"]
    assert shown["loss"] == pytest.approx(control["loss"], abs=0.3)


@pytest.mark.exact
@pytest.mark.parametrize(
    ("keys", "checkpoint"),
    [
        ({"iters": 200, "steps_per_report": 10}, {}),
        ({"learning_rate": 0.06, "grad_accumulation_steps": 2, "iters": 120}, {}),
        ({"iters": 40, "steps_per_report": 20}, {"every": 1}),
        ({}, {"every": 1, "keep": 1}),
        ({}, {"every": 1, "keep": 50}),
        ({"lr_schedule": {"name": "cosine_decay", "warmup": 5, "arguments": [0.05, 200]}, "iters": 100}, {}),
        (LORA | {"learning_rate": 0.002, "iters": 80, "optimizer_config": {}}, {}),
        (LORA | {"learning_rate": 0.006, "iters": 40, "optimizer_config": {}}, {}),
        ({"optimizer": "sgd", "learning_rate": 300.0, "optimizer_config": {}}, {}),
    ],
    ids=["long", "accumulation", "short", "keep-1", "keep-50", "schedule", "lora", "lora-soon", "sgd"],
)
def test_other_ways_to_go_nan(keys, checkpoint, half, works):
    works.start()
    run = works.train("too-high", half, TOO_HIGH, keys, checkpoint=checkpoint)

    shown = works.ended(run)

    print(works.story(shown))
    assert_halved_and_completed(works, shown)


@pytest.mark.exact
def test_nan_where_starting_over_is_forbidden_asks_a_person(half, works):
    """Nothing on the disk is old enough: the lower learning rate from iteration 0 is a person's decision."""
    works.start()
    run = works.train("never", half, TOO_HIGH, {"iters": 200}, recovery={"start_over": "never"})

    shown = works.ended(run, "held")
    print(works.story(shown))
    assert "iteration 0" in shown["reason"]
    assert len(shown["attempts"]) < 12

    ask(works.home, "resume", {"run": run})
    works.wait(lambda: works.show(run)["state"] != "held", "it goes on")
    shown = works.ended(run)
    assert shown["attempts"][-1]["from_iteration"] == 0


def test_nan_that_no_learning_rate_cures_ends_and_says_why(half, works):
    works.start()
    run = works.train("no-cure", half, TOO_HIGH, {"optimizer_config": {}, "learning_rate": 1e-3})

    shown = works.ended(run, "failed")

    assert causes(shown) == ["nan_loss"] * 4
    assert "eps" in shown["reason"]
