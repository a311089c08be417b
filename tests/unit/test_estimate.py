"""How much room a run needs: figures of models and optimizers that people train."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stoker.profiles.estimate import DiskNeed, budget_interval, disk_need, fit_keep, lora_bytes, moments
from stoker.profiles.facts import ModelFacts, TrainerDefaults
from stoker.profiles.job import load_job
from stoker.profiles.resolve import resolve

DEFAULTS = TrainerDefaults(
    {"model": "m", "data": "d", "fine_tune_type": "lora", "num_layers": 16, "iters": 1000, "save_every": 100,
     "optimizer": "adam", "optimizer_config": {"adam": {}, "adamw": {}, "muon": {}, "sgd": {}, "adafactor": {}},
     "adapter_path": "adapters",
     "lora_parameters": {"rank": 8, "dropout": 0.0, "scale": 20.0}},
    {"mlx_lm": "0.32.2"},
    "/py",
)  # fmt: skip
MODEL = ModelFacts(
    "/m", "qwen3", 36, 8_000_000_000, 4_000_000_000, "BF16", tied=True,
    shapes={f"model.layers.{n}.self_attn.q_proj.weight": (100, 50) for n in range(36)},
)  # fmt: skip
GB = 1_000_000_000


def asked(text=""):
    found, problems = load_job(f"model: /m\ndata: /d\n{text}".encode(), file="j.yaml", base_dir=None, defaults=DEFAULTS)
    assert found is not None, list(map(str, problems))
    return found


def need(text, model=MODEL):
    job = asked(text)
    return disk_need(job, resolve(job, DEFAULTS, model), model)


def test_a_full_fine_tune_with_adam_writes_three_times_the_weights():
    found = need("fine_tune_type: full\niters: 20000\nsave_every: 500\n")
    assert found.checkpoint == 24 * GB
    assert (found.keep, found.checkpoints, found.checkpoints_total) == (2, 4, 96 * GB)
    assert (found.saves, found.adapter_total, found.adapter_peak) == (41, 328 * GB, 336 * GB)
    large = replace(MODEL, size_bytes=64 * GB)
    assert need("fine_tune_type: full\n", large).checkpoint == 192 * GB
    assert need("fine_tune_type: full\n", model=None) is None


@pytest.mark.parametrize(
    ("text", "copies"),
    [
        ("", 2),
        ("optimizer: adamw\n", 2),
        ("optimizer: sgd\n", 1),  # mlx makes the momentum whatever its strength
        ("optimizer: sgd\noptimizer_config: {sgd: {momentum: 0.9}}\n", 1),
        ("optimizer: muon\n", 1),
        ("optimizer: adafactor\n", 0),
        ("optimizer: adafactor\noptimizer_config: {adafactor: {beta_1: 0.9}}\n", 1),
    ],
)
def test_other_optimizers_keep_less(text, copies):
    assert need(f"fine_tune_type: full\n{text}").checkpoint == (1 + copies) * 8 * GB


def test_what_is_not_known_counts_most():
    assert moments({"optimizer": "of-tomorrow"}) == 2
    assert moments({"optimizer": "adafactor", "optimizer_config": None, "fine_tune_type": "full"}) == 0
    assert moments({"optimizer": "adafactor", "lora_parameters": {"rank": 4}}) == 0.25


def test_an_adapter():
    config = {"lora_parameters": {"rank": 8}, "num_layers": 16}
    assert lora_bytes(config, MODEL) == 16 * 8 * 150 * 4
    assert lora_bytes({**config, "lora_parameters": {"rank": 8, "keys": ["mlp.up_proj"]}}, MODEL) == 0
    assert need("").checkpoint == 3 * 16 * 8 * 150 * 4


def test_the_write_budget_as_a_time():
    found = need("fine_tune_type: full\n")
    assert budget_interval(found, 2e12 / 86_400) == pytest.approx(1036.8)  # 17.3 minutes
    assert budget_interval(found, None) is None


@given(st.integers(1, 10), st.integers(1, 10**12), st.integers(0, 10**13))
def test_as_many_are_kept_as_there_is_room_for(keep, size, room):
    job = asked()
    resolved = resolve(job, DEFAULTS, MODEL)
    before = DiskNeed(size, keep, 1, 1)
    changed, after = fit_keep(job, resolved, before, room, "why")
    assert 1 <= after.keep <= keep
    assert after.keep == 1 or after.checkpoints_total <= room
    assert after.keep == keep or replace(after, keep=after.keep + 1).checkpoints_total > room
    assert len(changed.adjustments) == (after.keep != keep)


def test_a_number_in_the_job_is_not_touched():
    job = asked("stoker: {checkpoint: {keep: 5}}\n")
    resolved = resolve(job, DEFAULTS, MODEL)
    assert fit_keep(job, resolved, DiskNeed(100, 5, 1, 1), 0, "why") == (resolved, DiskNeed(100, 5, 1, 1))
