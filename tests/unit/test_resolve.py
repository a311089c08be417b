from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from stoker.profiles.facts import ModelFacts, TrainerDefaults
from stoker.profiles.job import load_job
from stoker.profiles.resolve import Cadence, checkpoint_every, checkpoint_keep, fill, layers_problem, resolve, rule
from stoker.profiles.schema import OVERRIDABLE
from stoker.profiles.yaml_scalars import dump

DEFAULTS = TrainerDefaults(
    {
        "model": "Qwen/Qwen3-0.6b",
        "train": False,
        "test": False,
        "config": None,
        "fine_tune_type": "lora",
        "data": "mlx-community/WikiSQL",
        "num_layers": 16,
        "iters": 1000,
        "batch_size": 4,
        "save_every": 100,
        "learning_rate": 1e-5,
        "adapter_path": "adapters",
        "lora_parameters": {"rank": 8, "dropout": 0.0, "scale": 20.0},
        "resume_adapter_file": None,
    },
    {"mlx_lm": "0.32.2"},
    "/py",
)
MODEL = ModelFacts(
    "/m", "qwen3", 36, 8_000_000_000, 4_000_000_000, "BF16", tied=True,
    shapes={f"model.layers.{n}.self_attn.q_proj.weight": (100, 50) for n in range(36)},
)  # fmt: skip


def job(text):
    found, problems = load_job(f"model: /m\ndata: /d\n{text}".encode(), file="j.yaml", base_dir=None, defaults=DEFAULTS)
    assert found is not None, list(map(str, problems))
    return found


def resolved(text, model=MODEL, **kwargs):
    return resolve(job(text), DEFAULTS, model, **kwargs)


def test_every_key_of_mlx_lm_gets_a_value_and_its_origin():
    found = resolved("iters: 7\nmystery: 1\n", adapter_path="/runs/r/adapter")
    assert set(found.config) == (set(DEFAULTS.config_defaults) - {"config"}) | {"mystery"}
    assert set(found.provenance) == set(found.config)
    assert (found.config["iters"], found.provenance["iters"]) == (7, "job")
    assert found.provenance["batch_size"] == "mlx-lm 0.32.2 default"
    assert found.provenance["mystery"] == "job"
    assert found.config["train"] is True
    assert (found.config["adapter_path"], found.provenance["adapter_path"]) == (
        "/runs/r/adapter",
        "stoker: the run's own folder",
    )


def test_the_defaults_are_not_shared_with_the_configuration():
    found = resolved("iters: 7\n")
    found.config["lora_parameters"]["rank"] = 99
    assert DEFAULTS.config_defaults["lora_parameters"]["rank"] == 8


def test_a_mapping_of_the_job_replaces_the_default_as_in_mlx_lm():
    found = resolved("lora_parameters: {rank: 4, scale: 1.0, dropout: 0.0}\n")
    assert found.config["lora_parameters"] == {"rank": 4, "scale": 1.0, "dropout": 0.0}


def test_a_test_at_the_end_is_kept_apart():
    found = resolved("test: true\n")
    assert found.test
    assert found.config["test"] is False
    assert "after the final adapter" in found.provenance["test"]
    assert not resolved("").test


class TestLayers:
    def test_full_fine_tuning_gets_all_layers(self):
        found = resolved("fine_tune_type: full\n")
        assert found.config["num_layers"] == 36
        assert "config.json" in found.provenance["num_layers"]

    def test_of_a_model_that_is_not_here_too(self):
        assert resolved("fine_tune_type: full\n", model=None).config["num_layers"] == -1

    @pytest.mark.parametrize("asked", [-1, 0, 8, 36, 40])
    def test_a_number_that_the_job_gives_is_kept(self, asked):
        text = f"fine_tune_type: full\nnum_layers: {asked}\n" if asked else "fine_tune_type: full\nnum_layers: 0\n"
        assert resolved(text).config["num_layers"] == asked

    @pytest.mark.parametrize(
        ("kind", "asked", "wrong"),
        [
            ("full", 36, False),
            ("full", -1, False),
            ("full", 16, True),
            ("full", 40, True),
            ("lora", 16, False),
            ("lora", 40, True),
        ],
    )
    def test_what_contradicts_the_model(self, kind, asked, wrong):
        assert bool(layers_problem({"fine_tune_type": kind, "num_layers": asked}, MODEL)) is wrong

    def test_the_default_of_lora_is_lowered_to_the_layers_of_a_small_model(self):
        """Mlx-lm refuses to train 16 layers of a model that has 4."""
        small = ModelFacts("/m", "qwen3", 4, 1, 1, "F32", tied=True)
        assert resolved("", model=small).config["num_layers"] == 4
        assert resolved("num_layers: 16\n", model=small).config["num_layers"] == 16

    def test_the_check_can_be_overridden(self):
        assert "num-layers" in OVERRIDABLE


class TestCadence:
    @pytest.mark.parametrize(("iters", "most"), [(1, 1), (19, 1), (60, 3), (1000, 50), (20_000, 1000), (10**6, 1000)])
    def test_the_rule(self, iters, most):
        assert rule(iters) == most

    @given(st.integers(1, 10**7))
    def test_there_are_at_least_twenty_checkpoints_where_there_are_twenty_iterations(self, iters):
        assert 1 <= rule(iters) <= 1000
        assert iters < 20 or iters // rule(iters) >= 20

    @pytest.mark.parametrize(
        ("every", "cadence"),
        [
            ("auto", Cadence(1000, 900.0, auto=True)),
            ("50", Cadence(50, None)),
            ("5000", Cadence(1000, None)),
            ("10m", Cadence(1000, 600.0)),
            ("15m", Cadence(1000, 900.0)),
        ],
    )
    def test_what_the_job_says_holds_below_the_rule(self, every, cadence):
        found = job(f"iters: 20000\nstoker: {{checkpoint: {{every: {every}}}}}\n")
        assert checkpoint_every(found, 20_000) == cadence
        assert checkpoint_every(found, 20_000).as_json()["auto"] is (every == "auto")

    def test_lowering_it_is_recorded(self):
        found = resolved("iters: 100\nstoker: {checkpoint: {every: 50}}\n")
        assert [(a["field"], a["from"], a["to"]) for a in found.adjustments] == [("stoker.checkpoint.every", 50, 5)]
        assert resolved("iters: 1000\nstoker: {checkpoint: {every: 50}}\n").adjustments == ()

    def test_the_saves_of_the_job_are_left_alone(self):
        found = resolved("iters: 20000\nsave_every: 5000\n")
        assert found.config["save_every"] == 5000
        assert found.adjustments == ()

    def test_they_are_lowered_for_trainers_without_our_checkpoints(self):
        found = resolved("iters: 20000\nsave_every: 5000\nstoker: {trainer: command, command: [x]}\n")
        assert found.every is None
        assert found.config["save_every"] == 1000
        assert [(a["field"], a["from"], a["to"]) for a in found.adjustments] == [("save_every", 5000, 1000)]

    @pytest.mark.parametrize(("size", "keep"), [(None, 3), (24_000_000_000, 2), (1, 3)])
    def test_keep(self, size, keep):
        assert checkpoint_keep(job(""), size) == keep
        assert checkpoint_keep(job("stoker: {checkpoint: {keep: 7}}\n"), size) == 7


def test_another_trainer_gets_what_the_job_says_and_no_more():
    found = resolved("iters: 5\nstoker: {trainer: command, command: [x]}\n", adapter_path="/a")
    assert found.config == {"model": "/m", "data": "/d", "iters": 5, "adapter_path": "/a"}


def test_a_command_is_filled():
    command = ("train", "--n={iters}", "{grad_checkpoint}", "{HOME}", "{unknown}", '{"a": {"b": 1}}')
    assert fill(command, {"iters": 5, "grad_checkpoint": True}) == (
        "train", "--n=5", "true", "{HOME}", "{unknown}", '{"a": {"b": 1}}',
    )  # fmt: skip


def test_the_configuration_is_read_back_by_yaml(tmp_path: Path):
    found = resolved("learning_rate: 2.8e-5\nproject_name: '1e-5'\n")
    assert yaml.safe_load(dump(found.config)) == found.config
