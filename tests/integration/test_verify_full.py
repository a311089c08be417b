"""A full fine-tune held against its base model: names, shapes, types, blocks, and values that were lost."""

import numpy as np
import pytest
from harness_safetensors import SHAPES, bf16, model, noise, save_adapter, save_model, trained, write

from stoker.recovery.checkpoint.verify import verify

UP = "model.layers.2.mlp.up_proj.weight"
NORM = "model.layers.1.input_layernorm.weight"


@pytest.fixture(name="look")
def _look(tmp_path):
    """Verify weights against a model; keywords are keys of the adapter's config."""

    def look(weights, base, *, num_layers=-1, written_by="mlx", shards=1, full=True):
        folder = save_model(tmp_path / "model", base, written_by, shards)
        config = {"model": str(folder), "fine_tune_type": "full", "num_layers": num_layers}
        return verify(save_adapter(tmp_path / "adapter", weights, **config), full=full)

    return look


def says(verdict, text):
    assert not verdict.ok
    assert any(text in problem for problem in verdict.problems), verdict.problems
    return True


@pytest.mark.parametrize("shards", [1, 3])
@pytest.mark.parametrize("convert", [np.float32, np.float16, bf16])
def test_a_healthy_one(look, tmp_path, convert, shards):
    base = model(convert=convert)
    verdict = look(trained(base), base, shards=shards)
    assert (verdict.problems, verdict.notes) == ((), ())
    assert (verdict.model, verdict.compared) == (tmp_path / "model", 4 * len(SHAPES))


@pytest.mark.parametrize(("num_layers", "top"), [(2, 2), (4, 4), (0, 4), (-1, 4)])
def test_the_topmost_blocks_are_enough_where_only_they_train(look, num_layers, top):
    assert look(trained(model(), top), model(), num_layers=num_layers).problems == ()


@pytest.mark.parametrize(("num_layers", "top"), [(3, 2), (0, 3), (-1, 3), (4, 1)])
def test_a_trained_block_that_is_missing(look, num_layers, top):
    assert says(
        look(trained(model(), top), model(), num_layers=num_layers), "adapters.safetensors: lacks model.layers."
    )


def test_one_tensor_that_is_missing(look):
    weights = trained(model())
    del weights[UP]
    assert says(look(weights, model()), f"lacks {UP}, which the run trains (num_layers: all blocks)")


def test_what_the_model_holds_and_mlx_does_not_train_need_not_be_there(look):
    more = {f"model.layers.{n}.self_attn.rotary_emb.inv_freq": noise(8) for n in range(4)}
    assert look(trained(model()), model() | more).ok


@pytest.mark.parametrize("written_by", ["mlx", "pt"])
@pytest.mark.parametrize("full", [True, False])
@pytest.mark.parametrize(
    ("change", "text"),
    [
        (lambda w: w.T, "is F32 [16, 24], in the model"),
        (lambda w: w[:-1], "is F32 [23, 16], in the model"),
        (lambda w: w.astype(np.float16), "is F16 [24, 16], in the model"),
        (bf16, "is BF16 [24, 16], in the model"),
    ],
    ids=["transposed", "cut", "f16", "bf16"],
)
def test_one_tensor_of_another_form(look, change, text, full, written_by):
    weights = trained(model())
    weights[UP] = np.ascontiguousarray(change(weights[UP]))
    assert says(look(weights, model(), full=full, written_by=written_by), f"{UP} {text}")


@pytest.mark.parametrize("written_by", ["mlx", "pt"])
def test_another_model(look, written_by):
    other = {name: noise([2 * side for side in values.shape]) for name, values in model().items()}
    verdict = look(trained(other), model(), written_by=written_by)
    assert says(verdict, f"({4 * len(SHAPES)} tensors differ)")


@pytest.mark.parametrize("written_by", ["mlx", "pt"])
def test_names_that_the_model_does_not_have(look, written_by):
    weights = trained(model())
    weights["model.layers.2.mlp.up.weight"] = weights.pop(UP)
    weights["head.weight"] = noise((4, 4))
    verdict = look(weights, model(), written_by=written_by)
    assert says(verdict, "has no head.weight and model.layers.2.mlp.up.weight")


def test_more_blocks_than_the_model_has(look):
    assert says(
        look(trained(model(layers=5)), model(), written_by="pt"), "has no model.layers.4.input_layernorm.weight,"
    )


def test_only_blocks_that_the_model_does_not_have(look):
    assert says(
        look(trained(model(layers=5), top=1), model(), num_layers=1), "has no model.layers.4.input_layernorm.weight,"
    )


def test_when_no_name_is_known_nothing_is_said_against_it(look):
    weights = {f"language_model.{name}": values for name, values in trained(model()).items()}
    verdict = look(weights, model())
    assert verdict.ok
    assert "names, shapes and types were not compared" in verdict.notes[0]
    assert (verdict.model, verdict.compared) == (None, 0)


@pytest.mark.parametrize("written_by", ["mlx", "pt"])
def test_experts_that_the_loader_stacks(look, written_by):
    """The model's file has each expert by itself; mlx-lm makes one tensor of them."""
    base, weights = model(), trained(model())
    for layer in range(4):
        block = f"model.layers.{layer}.mlp"
        base |= {f"{block}.experts.{n}.gate_proj.weight": noise((8, 16)) for n in range(3)}
        weights[f"{block}.switch_mlp.gate_proj.weight"] = noise((3, 8, 16))
    verdict = look(weights, base, written_by=written_by)
    assert verdict.ok, verdict.problems
    assert "switch_mlp.gate_proj.weight and 1 more not compared: mlx-lm makes them of other tensors" in verdict.notes[0]


def test_a_block_that_mlx_lm_does_not_load(look):
    """Some files hold one more block, for predicting several tokens; a file that mlx wrote holds what it loads."""
    assert look(trained(model()), model(layers=5), written_by="pt").ok
    assert says(look(trained(model()), model(layers=5), written_by="mlx"), "lacks model.layers.4.")


def test_a_tensor_that_only_one_block_of_the_model_lacks(look):
    """Beside experts that are stacked: those are not what it is made of."""
    base = model() | {f"model.layers.{layer}.mlp.experts.0.w1.weight": noise((8, 16)) for layer in range(4)}
    del base[UP]
    assert says(look(trained(model()), base, written_by="pt"), f"has no {UP}")


def test_a_kind_that_the_loader_transposes(look):
    """Everywhere alike, in a file that mlx did not write: that is the loader's work. In one block only, it is not."""
    base, weights = model(), trained(model())
    for name in [name for name in base if name.endswith("up_proj.weight")]:
        base[name] = np.ascontiguousarray(base[name].T)
    assert look(weights, base, written_by="pt").ok
    assert says(look(weights, base, written_by="mlx"), "(4 tensors differ)")
    base[UP] = np.ascontiguousarray(base[UP].T)
    assert says(look(weights, base, written_by="pt"), "up_proj.weight is F32")


def test_weights_that_another_tool_packed(look):
    packed = {n: np.zeros((v.shape[0], 2), np.uint32) if v.ndim == 2 else v for n, v in model().items()}
    assert look(trained(model()), packed, written_by="pt").ok
    assert not look(trained(model()), packed, written_by="mlx").ok


# ---- values ----------------------------------------------------------------------------------------------------------


def test_what_is_constant_in_the_model_may_stay_so(look):
    weights = trained(model()) | {
        NORM: np.ones(16, np.float32),
        "model.layers.1.self_attn.q_proj.bias": np.zeros(16, "f4"),
    }
    verdict = look(weights, model())
    assert verdict.ok
    assert (
        "input_layernorm.weight and model.layers.1.self_attn.q_proj.bias constant, as in the model" in verdict.notes[0]
    )


@pytest.mark.parametrize("convert", [np.float32, np.float16, bf16])
@pytest.mark.parametrize("name", [UP, NORM])
def test_zeros_that_were_not_zero_at_the_start(look, name, convert):
    base = model(convert=convert)
    weights = trained(base)
    weights[name] = np.zeros_like(weights[name])
    assert look(weights, base).problems == (
        f"adapters.safetensors: {name}: all values are zero; in the model they are not",
    )
    assert look(weights, base, full=False).ok


@pytest.mark.parametrize("value", [1.0, -0.5])
def test_values_that_varied_at_the_start_and_are_all_the_same(look, value):
    base = model() | {NORM: noise(16)}
    weights = trained(base) | {UP: np.full((24, 16), value, np.float32), NORM: np.full(16, value, np.float32)}
    assert says(look(weights, base), f"{NORM} and {UP}: all values are the same; in the model they are not")


def test_a_zero_matrix_that_the_model_has_too(look):
    """Some models keep tensors that are zero on purpose; without the model that would be a problem."""
    base = model() | {UP: np.zeros((24, 16), np.float32)}
    weights = trained(model()) | {UP: np.array([[0.0, -0.0] * 8] * 24, np.float32)}
    assert look(weights, base).ok
    assert not verify(write(look(weights, base).path.parent / "alone.safetensors", weights)).ok


def test_a_model_that_varies_only_at_its_very_end(look):
    """The model's tensor is read to the end before it is called constant."""
    late = np.zeros((24, 40_000), np.float32)
    late[-1, -1] = 1
    weights = trained(model()) | {UP: np.zeros_like(late)}
    assert says(look(weights, model() | {UP: late}), f"{UP}: all values are zero")


def test_a_failed_gpu_leaves_nothing_but_constants(look):
    weights = {name: np.zeros_like(values) for name, values in trained(model()).items()}
    assert says(look(weights, model()), "every tensor is constant")


def test_a_model_of_nothing_but_constants(look):
    base = {name: np.ones_like(values) for name, values in model().items()}
    weights = {name: values * 0.5 for name, values in base.items() if ".layers." in name}
    assert look(weights, base).ok


def test_few_values_may_come_to_be_equal(look):
    base = model() | {"model.layers.0.gate.weight": np.array([[1.0, 2.0]], np.float32)}
    weights = trained(model()) | {"model.layers.0.gate.weight": np.array([[3.0, 3.0]], np.float32)}
    assert look(weights, base).ok
