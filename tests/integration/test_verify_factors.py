"""LoRA and DoRA adapters held against their configuration and their base model."""

import numpy as np
import pytest
from harness_safetensors import VOCABULARY, factors, model, noise, save_adapter, save_model

from stoker.recovery.checkpoint.verify import verify

Q, UP, DOWN = (f"model.layers.3.{name}" for name in ("self_attn.q_proj", "mlp.up_proj", "mlp.down_proj"))
EMBEDDING = "model.embed_tokens"
MODULES = {Q: (16, 16), UP: (24, 16), DOWN: (16, 24)}
CONFIG = {"fine_tune_type": "lora", "num_layers": 4, "lora_parameters": {"rank": 4, "scale": 20.0, "dropout": 0.0}}


@pytest.fixture(name="look")
def _look(tmp_path):
    """Verify factors against a model; keywords are keys of the adapter's config."""

    def look(tensors, base=None, written_by="mlx", quantization=None, **config):
        more = {"quantization": quantization} if quantization else {}
        folder = save_model(tmp_path / "model", base or model(), written_by, **more)
        return verify(save_adapter(tmp_path / "adapter", tensors, **{**CONFIG, "model": str(folder), **config}))

    return look


def says(verdict, text):
    assert not verdict.ok
    assert any(text in problem for problem in verdict.problems), verdict.problems
    return True


@pytest.mark.parametrize("written_by", ["mlx", "pt"])
@pytest.mark.parametrize("dora", [False, True])
def test_a_healthy_one(look, dora, written_by):
    verdict = look(factors(MODULES, dora=dora), written_by=written_by, fine_tune_type="dora" if dora else "lora")
    assert (verdict.problems, verdict.notes) == ((), ())
    assert verdict.compared == (9 if dora else 6)


def test_an_embedding(look):
    """lora_a looks up entries: (entries, rank), where a linear layer has (inputs, rank)."""
    wide = {EMBEDDING: (16, VOCABULARY)}
    assert look(factors(wide)).ok
    magnitudes = {f"{EMBEDDING}.m": noise(VOCABULARY)}
    assert look(factors(wide) | magnitudes, fine_tune_type="dora").ok
    assert says(look(factors({EMBEDDING: (16, 41)})), f"{EMBEDDING} does not fit")


@pytest.mark.parametrize("leaf", ["lora_a", "lora_b", "m"])
def test_a_part_that_is_missing(look, leaf):
    tensors = factors(MODULES, dora=True)
    del tensors[f"{UP}.{leaf}"]
    assert says(look(tensors, fine_tune_type="dora"), f"lacks {UP}.{leaf}")


@pytest.mark.parametrize("leaf", ["lora_a", "lora_b"])
def test_a_factor_that_is_transposed(look, leaf):
    tensors = factors(MODULES)
    tensors[f"{DOWN}.{leaf}"] = np.ascontiguousarray(tensors[f"{DOWN}.{leaf}"].T)
    assert says(look(tensors), f"{DOWN}.{leaf} has shape")
    # Without a configuration the two factors tell by themselves.
    assert says(look(tensors, lora_parameters=None), "do not belong together: shapes")


def test_another_rank_than_the_configuration_says(look):
    assert says(look(factors(MODULES, rank=8)), "lora_a has shape [16, 8], adapter_config.json says rank 4")


@pytest.mark.parametrize(
    ("leaf", "shape"), [("lora_a", (20, 4)), ("lora_b", (4, 20)), ("m", (20,))], ids=["inputs", "outputs", "magnitudes"]
)
@pytest.mark.parametrize("written_by", ["mlx", "pt"])
def test_a_side_that_is_not_the_models(look, leaf, shape, written_by):
    tensors = factors(MODULES, dora=True) | {f"{UP}.{leaf}": noise(shape)}
    verdict = look(tensors, written_by=written_by, fine_tune_type="dora")
    if written_by == "mlx":
        assert says(verdict, f"{UP} does not fit: ")
        assert "is [24, 16]" in verdict.problems[0]
    else:  # the only layer of its kind: a loader may have made it so
        assert verdict.ok
        other = UP.replace("3", "2")
        assert says(look(tensors | factors({other: (24, 16)}, dora=True), written_by="pt", fine_tune_type="dora"), UP)


def test_both_factors_the_wrong_way_round(look):
    """As for an embedding, but this is none."""
    assert says(look(factors(MODULES | {UP: (16, 24)})), f"{UP} does not fit")


@pytest.mark.parametrize("written_by", ["mlx", "pt"])
def test_another_model(look, written_by):
    other = {name: (outputs * 2, inputs * 2) for name, (outputs, inputs) in MODULES.items()}
    assert says(look(factors(other), written_by=written_by), "(3 layers differ)")


def test_a_layer_that_the_model_does_not_have(look):
    tensors = factors(MODULES | {"model.layers.9.self_attn.q_proj": (16, 16)})
    assert says(look(tensors, written_by="pt"), "has no model.layers.9.self_attn.q_proj.weight")
    verdict = look(factors(MODULES), model(layers=3), written_by="pt")
    assert says(verdict, f"has no {DOWN}.weight, {UP}.weight and {Q}.weight")
    tensors = factors(MODULES | {"model.layers.3.mlp.gate_proj": (16, 16)})
    assert says(look(tensors), "has no model.layers.3.mlp.gate_proj.weight")
    verdict = look(tensors, written_by="pt")
    assert verdict.ok
    assert "gate_proj not compared" in verdict.notes[0]


def test_when_no_name_is_known_nothing_is_said_against_it(look):
    verdict = look(factors({f"language_model.{name}": sides for name, sides in MODULES.items()}))
    assert verdict.ok
    assert "shapes were not compared" in verdict.notes[0]


def test_another_type_is_worth_a_note(look):
    tensors = factors(MODULES)
    tensors[f"{Q}.lora_a"] = tensors[f"{Q}.lora_a"].astype(np.float16)
    verdict = look(tensors)
    assert verdict.ok
    assert f"{Q}.lora_a not of type F32" in verdict.notes[0]
    tensors[f"{Q}.lora_a"] = noise((16, 4)).view(np.uint32)
    assert says(look(tensors), f"{Q}.lora_a not of a floating-point type")


# ---- quantized models ------------------------------------------------------------------------------------------------


def packed(bits, group=8, **others):
    """The model with its matrices packed into 32-bit words; `others`: module's last name -> its own bits."""
    tensors = {}
    for name, values in model().items():
        module = name.removesuffix(".weight")
        if values.ndim != 2:
            tensors[name] = values
            continue
        own = others.get(module.rpartition(".")[2], bits)
        rows, columns = values.shape
        tensors[name] = np.arange(rows * columns * own // 32, dtype=np.uint32).reshape(rows, -1)
        tensors |= {f"{module}.{leaf}": noise((rows, columns // group)) for leaf in ("scales", "biases")}
    return tensors


@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize("dora", [False, True])
def test_a_quantized_model(look, bits, dora):
    setting, method = {"bits": bits, "group_size": 8}, "dora" if dora else "lora"
    healthy = look(factors(MODULES, dora=dora), packed(bits), quantization=setting, fine_tune_type=method)
    assert (healthy.problems, healthy.notes) == ((), ())
    wrong = factors(MODULES | {UP: (24, 12)}, dora=dora)
    assert says(look(wrong, packed(bits), quantization=setting, fine_tune_type=method), "is [24, 16]")


def test_layers_with_bits_of_their_own(look):
    """Named in config.json, or found by mlx-lm from the shapes: then the number of inputs is not known here."""
    base = packed(4, up_proj=8)
    for named in ({UP: {"bits": 8, "group_size": 8}}, {}):
        assert look(factors(MODULES), base, quantization={"bits": 4, "group_size": 8, **named}).ok
        wrong = factors(MODULES | {UP: (25, 16)})
        assert says(look(wrong, base, quantization={"bits": 4, "group_size": 8, **named}), f"{UP} does not fit")
    wrong = factors(MODULES | {UP: (24, 12)})
    assert not look(wrong, base, quantization={"bits": 4, "group_size": 8, UP: {"bits": 8, "group_size": 8}}).ok


def test_a_quantization_that_is_not_mlxs_is_passed_over(look):
    assert look(factors(MODULES), packed(4), written_by="pt", quantization={"quant_method": "fp8"}).ok


# ---- experts ---------------------------------------------------------------------------------------------------------

SWITCH = "model.layers.3.mlp.switch_mlp.up_proj"


def experts(lora_a=(3, 4, 16), lora_b=(3, 24, 4)):
    return factors(MODULES) | {f"{SWITCH}.lora_a": noise(lora_a), f"{SWITCH}.lora_b": noise(lora_b)}


def test_experts(look):
    base = model() | {f"{SWITCH}.weight": noise((3, 24, 16))}
    assert look(experts(), base).ok
    assert look(experts(lora_a=(12, 16)), base).ok, "as older versions made it"
    assert says(look(experts(lora_b=(2, 24, 4)), base), f"{SWITCH} does not fit")
    assert says(look(experts(lora_a=(3, 4, 15)), base), f"{SWITCH} does not fit")
    assert says(look(experts(lora_a=(3, 8, 16)), base), "says rank 4")


@pytest.mark.parametrize("written_by", ["mlx", "pt"])
def test_experts_that_the_loader_stacks(look, written_by):
    single = {f"model.layers.3.mlp.experts.{n}.up_proj.weight": noise((24, 16)) for n in range(3)}
    verdict = look(experts(), model() | single, written_by=written_by)
    assert verdict.ok, verdict.problems
    assert "switch_mlp.up_proj not compared" in verdict.notes[0]


def test_layers_with_a_lora_of_their_own_are_passed_over(look):
    """mlx-lm's afm7 fuses three projections and numbers their factors."""
    tensors = {f"model.layers.3.qkv.lora_{part}.{n}": np.zeros((16, 4), "f4") for part in "ab" for n in range(3)}
    tensors |= {f"model.layers.3.qkv.lora_a.{n}": noise((16, 4)) for n in range(3)}
    assert look(tensors).ok


# ---- values ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", [0.0, 0.25])
def test_a_first_factor_that_never_varies(look, value):
    tensors = factors(MODULES) | {f"{UP}.lora_a": np.full((16, 4), value, np.float32)}
    words = "all values are the same" if value else "all values are zero"
    assert look(tensors).problems == (f"adapters.safetensors: {UP}.lora_a: {words}",)


def test_a_second_factor_may_be_zero_but_not_another_constant(look):
    assert look(factors(MODULES) | {f"{UP}.lora_b": np.zeros((4, 24), np.float32)}).ok
    assert not look(factors(MODULES) | {f"{UP}.lora_b": np.ones((4, 24), np.float32)}).ok


def test_magnitudes_are_zero_only_where_the_models_rows_are(look):
    tensors = factors(MODULES, dora=True) | {f"{UP}.m": np.zeros(24, np.float32)}
    assert says(look(tensors, fine_tune_type="dora"), f"{UP}.m: all values are zero")
    assert look(tensors | {f"{UP}.m": np.ones(24, np.float32)}, fine_tune_type="dora").ok
    base = model() | {f"{UP}.weight": np.zeros((24, 16), np.float32)}
    assert look(tensors, base, fine_tune_type="dora").ok
