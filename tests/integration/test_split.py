"""A batch in row groups trains as the whole batch does: the same draws and numbers, the same dropout masks, and gradients
that differ by the rounding of another order of addition only.

Each tensor is held against the other one in units of its largest number; float32 rounds at 6e-8. Adam divides a
gradient by its own size, so that a rounded zero would become a whole step: there eps is large enough to hide the
rounding and small enough to leave the rule of the update as it is.
"""

import json
import os
import tempfile
import threading

import mlx.core as mx
import numpy as np
import pytest
from harness_split import Case, batches, differences, made, trained
from harness_trainer import KINDS, WARM, TrainerRun, tiny_for_tests
from mlx_lm.tuner.trainer import default_loss

from stoker.supervisor.trainer.data import target_counts
from stoker.supervisor.trainer.masks import experts_drop_out, masks_of_whole
from stoker.supervisor.trainer.split import split_loss

pytestmark = pytest.mark.training

ROUNDING = {"losses": 2e-6, "parameters": 1e-5, "optimizer": 1e-5}
OTHER_MASKS = 1e-3  # what other masks change in a loss at the very least, relative; found: 1e-2
LORA = {"kind": "lora", "dropout": 0.1}


@pytest.fixture
def eager():
    """Without compiled kernels: a case takes a tenth of a second, and the arithmetic of the groups is the same."""
    mx.disable_compile()
    yield
    mx.enable_compile()


@pytest.fixture
def compiled(monkeypatch):
    """The CPU backend compiles kernels into TMPDIR: those of all tests are in one place."""
    tempfile.gettempdir()  # Python's own choice stays where it was
    WARM.mkdir(parents=True, exist_ok=True)
    monkeypatch.setenv("TMPDIR", os.fspath(WARM))


def assert_same(whole, split, limits=ROUNDING):
    assert split.tokens == whole.tokens
    assert split.keys == whole.keys
    found = differences(whole, split)
    assert all(found[name] <= limits[name] for name in limits), found


@pytest.mark.parametrize(
    ("optimizer", "options"),
    [
        ("adam", {"betas": [0.8, 0.9], "eps": 1e-3, "bias_correction": True}),
        ("adamw", {"weight_decay": 0.1, "eps": 1e-3}),
        ("muon", {"momentum": 0.9, "weight_decay": 0.05}),
        ("sgd", {"momentum": 0.9, "nesterov": True, "dampening": 0.0}),
        ("adafactor", {"relative_step": False, "scale_parameter": False, "beta_1": 0.9}),
    ],
)
@pytest.mark.parametrize("kind", [{"kind": "full"}, LORA], ids=["full", "lora"])
def test_each_optimizer_takes_the_same_steps(eager, kind, optimizer, options):
    case = Case(**kind, optimizer=optimizer, options=options, rate=0.01, accumulation=2)
    assert_same(trained(case, None), trained(case, 2))


@pytest.mark.parametrize(
    "options",
    [
        LORA,
        LORA | {"kind": "dora"},
        LORA | {"checkpointed": True},
        LORA | {"masked": True, "accumulation": 3, "iterations": 6},
        LORA | {"quantized": True},
        LORA | {"dtype": mx.bfloat16},
        LORA | {"batch": 4, "experts": True, "dropout": 0.0, "width": 40},
        {"masked": True, "checkpointed": True, "accumulation": 3, "iterations": 5},
    ],
    ids=lambda options: "-".join(f"{name}={value}" for name, value in options.items()),
)
@pytest.mark.parametrize("micro_batch", [1, 3])
def test_groups_of_any_size_train_as_the_whole_batch(eager, micro_batch, options):
    """Batches of five in groups of 1 1 1 1 1 and of 3 2. With a masked prompt the second row has no target token: its
    group is left out. In a checkpointed layer mlx draws a second time for the backward pass.
    """
    case = Case(**options)
    whole = trained(case, None)

    assert_same(whole, trained(case, micro_batch))
    if case.dropout:
        assert differences(whole, trained(case, None, seed=4))["losses"] > OTHER_MASKS


def test_groups_in_16_bits_lose_less_than_16_bits_themselves(eager):
    """The groups' gradients are added up in bfloat16, see Step: that moves less than training in bfloat16 does."""
    case, exact = (Case(dtype=dtype, batch=8, iterations=1) for dtype in (mx.bfloat16, mx.float32))
    whole, split = trained(case, None), trained(case, 1)

    assert split.keys == whole.keys
    assert split.losses == pytest.approx(whole.losses, rel=2e-3)
    assert gap(whole, split) < gap(whole, trained(exact, None)) / 2


def gap(one, other):
    """Euclidean distance of all trained parameters."""
    return np.sqrt(sum(np.sum((one.parameters[name] - other.parameters[name]) ** 2) for name in one.parameters))


def test_a_batch_without_a_target_token_is_shown_whole(eager):
    """The loss is 0/0 as without groups: the guard of the loop names the data."""
    lost = (mx.ones((4, 9), mx.int32), mx.full((4, 2), 9))
    results = [trained(Case(**LORA, accumulation=2), size, instead=lost) for size in (None, 2)]

    assert [np.isnan(result.losses).all() for result in results] == [True, True]
    assert results[0].tokens == results[1].tokens == [0] * 4
    assert results[0].keys == results[1].keys


def test_one_computation_serves_all_groups_of_a_size(compiled):
    """The start of a group is an input of what was compiled, not part of it: of 2 + 2 + 1 rows the first two groups are
    two computations only because the second adds to a gradient.
    """
    case, announced = Case(**LORA, iterations=3), []
    mx.disable_compile()
    whole = trained(case, None)
    mx.enable_compile()

    assert_same(whole, trained(case, 2, compiling=lambda: announced.append(1)))
    assert len(announced) == 2 * 4  # 2 rows, 2 added, 1 added, update; mlx compiles again after the first update


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("size", [1, 2, 3, 5, 8])
def test_a_validation_batch_in_groups_has_the_same_loss(eager, masked, size):
    case = Case(**LORA, masked=masked)
    with made(case) as model:
        model.eval()
        before = mx.random.state[0].tolist()
        for batch in batches(case):
            expected, found = default_loss(model, *batch), split_loss(default_loss, size)(model, *batch)
            assert found[1].item() == expected[1].item() == target_counts(batch[1], case.width).sum()
            assert found[0].item() == pytest.approx(expected[0].item(), rel=1e-6)
        assert mx.random.state[0].tolist() == before


@pytest.mark.parametrize("shape", [(2, 3, 4), (2 * 3, 4), (2 * 3, 1, 4), (2,)])
@pytest.mark.parametrize("start", [0, 1, 3])
def test_the_mask_of_a_group_is_cut_from_that_of_the_whole_batch(shape, start):
    per_row = shape[0] // 2
    mx.random.seed(7)
    whole = mx.random.bernoulli(0.6, (5 * per_row, *shape[1:]))
    after = mx.random.state[0].tolist()
    mx.random.seed(7)

    with masks_of_whole(2, 5, mx.array([start])):
        part = mx.random.bernoulli(0.6, shape)

    assert part.tolist() == whole[start * per_row :][: 2 * per_row].tolist()
    assert mx.random.state[0].tolist() == after


def test_what_is_not_a_mask_of_rows_is_drawn_as_ever():
    """A shape that is no multiple of the rows, a scalar, a key of its own, a draw of another thread."""
    stock, key, elsewhere = mx.random.bernoulli, mx.random.key(3), []
    expected = stock(0.5, (2, 4), key).tolist()
    mx.random.seed(7)
    odd = stock(0.5, (7, 3)).tolist()
    mx.random.seed(7)

    with masks_of_whole(2, 4, mx.array([2])):
        assert mx.random.bernoulli(0.5, (7, 3)).tolist() == odd
        assert mx.random.bernoulli(0.5).shape == ()
        assert mx.random.bernoulli(0.5, (2, 4), key).tolist() == expected
        thread = threading.Thread(target=lambda: elsewhere.append(mx.random.bernoulli(0.5, (2, 4), key).tolist()))
        thread.start()
        thread.join()

    assert elsewhere == [expected]
    assert mx.random.bernoulli is stock


def test_an_error_in_the_model_puts_the_stock_draw_back():
    stock = mx.random.bernoulli
    for _ in range(2):  # the second time would wait for ever for a lock that was not let go
        with pytest.raises(ZeroDivisionError), masks_of_whole(1, 2, mx.array([0])):
            raise ZeroDivisionError
        assert mx.random.bernoulli is stock


def test_layers_of_experts_have_masks_of_their_own(eager):
    """mlx-lm sorts the tokens of all rows by expert before it drops out: those masks no group can know."""
    case = Case(**LORA, experts=True, batch=4, width=40, iterations=2)
    whole, split = trained(case, None), trained(case, 2)

    assert split.keys == whole.keys
    assert split.tokens == whole.tokens
    assert differences(whole, split)["losses"] > 1e-4
    with made(case) as experts, made(Case(**LORA)) as dense, made(Case(kind="lora", experts=True)) as none:
        assert [experts_drop_out(model) for model in (experts, dense, none)] == [True, False, False]


def test_row_groups_may_change_between_attempts(tmp_path):
    """Whole batches until a kill in the middle of an accumulation, then groups of 3 + 1 rows until the next one, then
    of 1: data order, draws, counts and learning rates are those of whole batches, losses and weights up to rounding.
    """
    tiny = tiny_for_tests(tmp_path / "tiny", style="prompt")
    config = KINDS["dropout"] | {
        "mask_prompt": True, "grad_accumulation_steps": 3, "iters": 15, "steps_per_report": 2,
        "optimizer_config": {"adam": {"eps": 1e-3}},
        "lr_schedule": {"name": "cosine_decay", "warmup": 2, "arguments": [1e-3, 30, 1e-5]},
    }  # fmt: skip
    runs = [
        TrainerRun(tmp_path / name, tiny, config, {"iterations": 3, "seconds": None}) for name in ("whole", "split")
    ]
    whole, split = [runs[0].finish()], []
    for at, wants in ((5, {}), (10, {"micro_batch": 3})):
        split.append(runs[1].launch(drill=[{"fault": "kill", "at": at}], **wants))
        assert split[-1].wait() == -9
    split.append(runs[1].finish(micro_batch=1))

    exact = ("iteration", "step", "trained_tokens", "learning_rate")
    assert column(split, "train", *exact) == column(whole, "train", *exact)
    assert column(split, "val", "iteration") == column(whole, "val", "iteration")
    for kind, name in (("train", "train_loss"), ("val", "val_loss")):
        np.testing.assert_allclose(column(split, kind, name), column(whole, kind, name), rtol=1e-5)
    ours, theirs = (state_of(run) for run in reversed(runs))
    assert {name: ours[name] for name in DRAWS} == {name: theirs[name] for name in DRAWS}
    weights = [mx.load(str(run.adapter / "adapters.safetensors")) for run in runs]
    assert weights[0].keys() == weights[1].keys()
    for name in weights[0]:
        np.testing.assert_allclose(np.array(weights[1][name]), np.array(weights[0][name]), atol=1e-5)
    assert split[-1].of_kind("start")[0]["label_reasons"][0].startswith("micro_batch: ")


DRAWS = ("iteration", "step", "epoch", "numpy", "mlx_key")


def state_of(run):
    return json.loads((run.checkpoints[0] / "state.json").read_bytes())


def column(attempts, kind, *names):
    """Fields of the rows by iteration; what was computed again after a kill counts as the last attempt has it."""
    rows = {row["iteration"]: [row[name] for name in names] for attempt in attempts for row in attempt.of_kind(kind)}
    return [rows[iteration] for iteration in sorted(rows)]
