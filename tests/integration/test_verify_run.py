"""The verifier finds what a checkpoint comes from: the run's frozen inputs, its configuration, its model."""

import hashlib
import json
import shutil

import numpy as np
import pytest
import typer
from harness_safetensors import (
    factors,
    model,
    moments,
    noise,
    save_adapter,
    save_checkpoint,
    save_model,
    save_run,
    trained,
    write,
)
from typer.testing import CliRunner

from stoker.recovery.checkpoint.origin import of_run, origin_of, with_model
from stoker.recovery.checkpoint.verify import verify
from stoker.supervisor.cli.verify import verify as verb
from stoker.supervisor.ending import Ending, judge
from stoker.supervisor.errors import UsageError

MODULES = {"model.layers.3.self_attn.q_proj": (16, 16), "model.layers.3.mlp.up_proj": (24, 16)}
LORA = {"fine_tune_type": "lora", "num_layers": 4, "lora_parameters": {"rank": 4}}
FULL = {"fine_tune_type": "full", "num_layers": -1}
COUNT = 20  # tensors of the four blocks


@pytest.fixture(name="base")
def _base(tmp_path):
    return save_model(tmp_path / "base", model())


@pytest.fixture(name="run")
def _run(tmp_path, base):
    return save_run(tmp_path / "runs" / "r", base, **FULL)


def healthy(run, **options):
    weights = trained(model())
    return save_checkpoint(run, weights, moments(weights), **options)


def transposed():
    name = "model.layers.0.mlp.up_proj.weight"
    weights = trained(model())
    return weights | {name: np.ascontiguousarray(weights[name].T)}


def broken(run, **options):
    """Whole and unchanged, but one tensor is transposed: only the model tells."""
    weights = transposed()
    return save_checkpoint(run, weights, moments(weights), **options)


def test_a_checkpoint_of_a_run(run, base):
    verdict = verify(healthy(run))
    assert (verdict.problems, verdict.notes) == ((), ())
    assert (verdict.model, verdict.compared) == (base, COUNT)


@pytest.mark.parametrize("place", ["checkpoints", "quarantine", "staging", "superseded/a1"])
def test_a_checkpoint_is_compared_wherever_it_lies_in_its_run(run, place):
    folder = broken(run)
    (run / place).mkdir(parents=True, exist_ok=True)
    folder = folder.rename(run / place / folder.name)
    for path in (folder, folder / "weights.safetensors"):
        assert "up_proj.weight is F32 [16, 24]" in verify(path).problems[0]


def test_a_model_that_is_gone_is_no_problem(run, base):
    folder = broken(run)
    shutil.rmtree(base)
    verdict = verify(folder)
    assert verdict.ok
    assert verdict.notes == (f"the base model is not here ({base}): names, shapes and types were not compared",)
    assert (verdict.model, verdict.compared) == (None, 0)


@pytest.mark.parametrize(
    ("damage", "text"),
    [
        (
            lambda base: write(base / "model.safetensors", {"other": noise((4, 4))}),
            "is not the one that the run began with",
        ),
        (lambda base: (base / "config.json").write_text("{}\n"), "is not the one that the run began with"),
        (lambda base: (base / "config.json").unlink(), "cannot be read"),
    ],
    ids=["weights", "config", "gone"],
)
def test_a_model_that_was_changed_says_nothing_about_the_checkpoint(run, base, damage, text):
    folder = broken(run)
    damage(base)
    verdict = verify(folder)
    assert verdict.ok
    assert text in verdict.notes[0]


@pytest.mark.parametrize(
    ("damage", "text"),
    [
        (lambda base: (base / "model-00002-of-00003.safetensors").unlink(), "00002-of-00003.safetensors is missing"),
        (lambda base: (base / "model-00002-of-00003.safetensors").write_bytes(b"x"), "too short"),
        (lambda base: [path.unlink() for path in base.glob("*.safetensors*")], "holds no model*.safetensors"),
    ],
)
def test_a_model_that_is_incomplete_says_nothing_about_the_adapter(tmp_path, damage, text):
    base = save_model(tmp_path / "model", model(), shards=3)
    folder = save_adapter(tmp_path / "adapter", transposed(), model=str(base), **FULL)
    assert not verify(folder).ok
    damage(base)
    verdict = verify(folder)
    assert verdict.ok
    assert text in verdict.notes[0]


def test_a_model_that_goes_away_while_it_is_read(run, monkeypatch):
    def gone(*_):
        raise OSError(5, "Input/output error")

    weights = trained(model()) | {"model.layers.0.mlp.up_proj.weight": np.zeros((24, 16), np.float32)}
    folder = save_checkpoint(run, weights, moments(weights))
    monkeypatch.setattr("stoker.recovery.checkpoint.values.look_at", gone)
    verdict = verify(folder)
    assert "can no longer be read" in verdict.notes[0]
    assert verdict.problems == ("weights.safetensors: model.layers.0.mlp.up_proj.weight: all values are zero",)


def test_a_hub_name_is_no_folder(tmp_path):
    folder = save_adapter(tmp_path / "adapter", transposed(), model="hub/name", **FULL)
    assert verify(folder).ok
    assert "the base model is not here (hub/name)" in verify(folder).notes[0]


def test_the_configuration_is_that_of_the_checkpoints_own_attempt(tmp_path, base):
    run = save_run(tmp_path / "runs" / "r", base, **LORA)
    (run / "attempts" / "2").mkdir()
    (run / "attempts" / "2" / "config.yaml").write_text("lora_parameters: {rank: 8}")
    (run / "attempts" / "10").mkdir()
    first, second = (
        save_checkpoint(run, factors(MODULES), moments(factors(MODULES)), attempt=n, method="lora") for n in (1, 2)
    )
    assert verify(first).ok
    assert "attempts/2/config.yaml says rank 8" in verify(second).problems[0]
    assert of_run(run).source == "attempts/10/config.yaml"


@pytest.mark.parametrize("text", ["", "[", "- 1", "{a: b: c}", "\x00", "a: 2026-13-40", "[" * 9999])
def test_a_configuration_that_cannot_be_read(run, text):
    (run / "attempts" / "1" / "config.yaml").write_text(text)
    assert verify(healthy(run)).ok


def test_the_method_that_the_manifest_says(run):
    folder = save_checkpoint(run, factors(MODULES), moments(factors(MODULES)))
    assert "holds LoRA factors, the manifest says fine_tune_type full" in verify(folder).problems[0]
    weights = trained(model())
    folder = save_checkpoint(run, weights, moments(weights), method="lora", step=21)
    assert "holds no LoRA factors, the manifest says fine_tune_type lora" in verify(folder).problems[0]


@pytest.mark.parametrize(
    ("config", "step", "noted"),
    [
        ({"learning_rate": 1e-4}, 1, True),
        ({}, 1, True),
        ({"learning_rate": "1e-4"}, 1, True),
        ({"learning_rate": 0.0}, 1, False),
        ({"learning_rate": 1e-4}, 0, False),
        ({"lr_schedule": {"name": "linear", "warmup": 4}}, 1, False),
        ({"lr_schedule": {"name": "linear", "warmup": 4}}, 2, True),
    ],
)
def test_factors_that_no_step_has_moved(tmp_path, base, config, step, noted):
    run = save_run(tmp_path / "runs" / "r", base, **LORA, **config)
    still = {name: values * 0 if name.endswith("lora_b") else values for name, values in factors(MODULES).items()}
    verdict = verify(save_checkpoint(run, still, moments(still), method="lora", step=step))
    assert verdict.ok
    text = f"weights.safetensors: every lora_b is still zero after {step} steps: nothing has been learnt"
    assert (text in verdict.notes) is noted
    name = next(name for name in still if name.endswith("lora_b"))
    some = still | {name: noise(still[name].shape)}
    assert text not in verify(save_checkpoint(run, some, moments(some), method="lora", step=step, attempt=3)).notes


# ---- the optimizer's tensors -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("leaves", [("m", "v"), ("v",), ("exp_avg_sq",), ("exp_avg_sq_row", "exp_avg_sq_col")])
def test_the_state_of_each_optimizer(run, leaves):
    weights = trained(model())
    assert verify(save_checkpoint(run, weights, moments(weights, leaves))).ok


def test_a_state_of_nothing_that_is_known_is_passed_over(run):
    weights = trained(model())
    assert verify(save_checkpoint(run, weights, {"states.0.x.m": noise((4, 4)), "step": noise(1)})).ok


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (lambda state, name: state | {"model.layers.9.x.m": state[f"{name}.m"]}, "layers.9.x.m belong to no tensor"),
        (
            lambda state, name: {key: values for key, values in state.items() if not key.startswith(name)},
            "holds nothing for model.layers.0.mlp.up_proj.weight",
        ),
        (
            lambda state, name: state | {f"{name}.v": noise((16, 24))},
            "up_proj.weight.v has shape [16, 24], its weights",
        ),
    ],
)
def test_a_state_that_does_not_belong_to_the_weights(run, change, text):
    weights = trained(model())
    state = change(moments(weights), "model.layers.0.mlp.up_proj.weight")
    problems = verify(save_checkpoint(run, weights, state)).problems
    assert len(problems) == 1
    assert text in problems[0]


# ---- the end of a run --------------------------------------------------------------------------------------------------


def test_a_final_adapter_that_does_not_fit_the_model_is_no_success(tmp_path, run, base):
    """The trainer's own hash agrees. A model that is unmounted by then changes nothing."""
    sha256 = {}
    for name, weights in (("good", trained(model())), ("bad", transposed())):
        path = save_adapter(tmp_path / name, weights, model="hub/name", **FULL) / "adapters.safetensors"
        sha256[path] = hashlib.sha256(path.read_bytes()).hexdigest()

    def missing(path):
        row = {"kind": "final", "adapter": str(path), "sha256": sha256[path]}
        ending = Ending(known=True, code=0, signal=None, iteration=1, phase=None, rows=(row,), ended_at=1.0)
        return judge(ending, ("adapter_verified",), 1, of_run(run)).missing

    good, bad = sha256
    assert missing(good) == ()
    assert f"the final adapter is not good: {bad}: model.layers.0.mlp.up_proj.weight is F32" in missing(bad)[0]
    shutil.rmtree(base)
    assert missing(bad) == ()


# ---- the command -----------------------------------------------------------------------------------------------------


def call(*words):
    app = typer.Typer()
    app.command()(verb)
    return CliRunner().invoke(app, [str(word) for word in words])


def test_a_runs_folder_stands_for_its_checkpoints_and_its_adapter(run, base):
    healthy(run, step=10)
    broken(run, step=20)
    save_adapter(run / "adapter", trained(model()), model="hub/name", **FULL)
    result = call(run, "--json")
    assert result.exit_code == 1
    rows = json.loads(result.stdout)
    assert [(row["kind"], row["iteration"], row["ok"]) for row in rows] == [
        ("checkpoint", 20, True), ("checkpoint", 40, False), ("adapter", None, True),
    ]  # fmt: skip
    assert [(row["model"], row["compared"]) for row in rows] == [(str(base), COUNT)] * 3
    assert f"      compared with {base}: {COUNT} tensors" in call(run).stdout


@pytest.mark.parametrize("named", ["hub/name", "hub/other"])
def test_the_runs_adapter_may_lie_elsewhere(tmp_path, base, named):
    """The run knows the folder of a hub's model; an adapter of another model there is none of its business."""
    target = save_adapter(tmp_path / "mine", transposed(), model=named, **FULL)
    run = save_run(tmp_path / "runs" / "r", base, **FULL, adapter_path=str(target))
    rows = json.loads(call(run, "--json").stdout)
    assert [(row["path"], row["ok"]) for row in rows] == [(str(target), named == "hub/other")]


def test_a_run_without_anything_yet(run):
    error = call(run).exception
    assert isinstance(error, UsageError)
    assert "neither a checkpoint nor an adapter yet" in str(error)


def test_a_model_that_is_named_by_hand(tmp_path, base):
    folder = save_adapter(tmp_path / "adapter", transposed(), model="hub/name", **FULL)
    assert call(folder).exit_code == 0
    assert call(folder, "--model", base).exit_code == 1
    assert call(folder / "adapters.safetensors", "--model", base).exit_code == 1
    assert isinstance(call(folder, "--model", tmp_path / "nothing").exception, UsageError)
    assert with_model(origin_of(folder), base).config["fine_tune_type"] == "full"
