"""Real training of a tiny model: what the trainer process promises about bytes, kills, stops and guards."""

import json
import random
import re
import shutil
import signal
from pathlib import Path

import numpy as np
import pytest
from harness_campaign import Campaign
from harness_trainer import KINDS, TrainerRun, adapters_of, stock, tiny_for_tests

from stoker.recovery.checkpoint.manifest import WEIGHTS, read
from stoker.supervisor.trainer.guards import Guard
from stoker.supervisor.trainer.outcomes import Fault
from stoker.supervisor.trainer.snapshot import HostTensor, not_finite
from stoker.supervisor.trainer.versions import is_proved, versions

pytestmark = pytest.mark.training


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    return tiny_for_tests(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="module")
def references(tiny, tmp_path_factory):
    """Adapters of the stock command by kind of training, each trained once."""
    known = {}

    def reference(kind):
        if kind not in known:
            known[kind] = adapters_of(stock(tiny, KINDS[kind], tmp_path_factory.mktemp(f"stock-{kind}")))
        return known[kind]

    return reference


def tensors(path: Path) -> dict[str, np.ndarray]:
    """The float32 tensors of a safetensors file."""
    data = path.read_bytes()
    start = 8 + int.from_bytes(data[:8], "little")
    entries = json.loads(data[8:start])
    entries.pop("__metadata__", None)
    found = {}
    for name, row in entries.items():
        begin, end = row["data_offsets"]
        found[name] = np.frombuffer(data[start + begin : start + end], np.float32).reshape(row["shape"])
    return found


@pytest.mark.parametrize("kind", ["full", "lora"])
def test_an_undisturbed_run_writes_the_bytes_of_the_stock_command(kind, tiny, references, tmp_path):
    run = TrainerRun(tmp_path, tiny, KINDS[kind])

    attempt = run.finish()

    assert adapters_of(run.adapter) == references(kind)
    start, final = attempt.of_kind("start")[0], attempt.of_kind("final")[0]
    assert (start["resume"], start["proved"], start["label_reasons"]) == ("fresh", True, [])
    assert (final["iteration"], final["changed"], final["finite"]) == (24, True, True)
    assert [row["iteration"] for row in attempt.of_kind("train")] == [5, 10, 15, 20, 24]
    assert [row["iteration"] for row in attempt.of_kind("val")] == [1, 7, 14, 21, 24]
    assert [path.name for path in run.checkpoints] == ["00000024-a1", "00000020-a1", "00000016-a1"]
    assert attempt.heartbeat()["phase"] == "done"


@pytest.mark.parametrize(
    ("kind", "kills"),
    [
        ("full", ["early", "later", "compiling", "writer"]),
        ("lora", ["later", "anywhere", "validate"]),
    ],
)
def test_kills_do_not_change_the_bytes(kind, kills, tiny, references, tmp_path):
    run = TrainerRun(tmp_path, tiny, KINDS[kind], keep=2)
    campaign = Campaign(run, seed=sum(map(ord, kind)))

    campaign.carry_out(kills)
    last = run.finish()

    print(campaign.table(kind))
    assert adapters_of(run.adapter) == references(kind)
    assert last.of_kind("start")[0]["resume"] == "exact"


def test_stopping_in_the_middle_of_an_accumulation_loses_no_completed_step(tiny, references, tmp_path):
    """The batches of an unfinished accumulation are drawn again; the parameters have not moved since the step before."""
    run = TrainerRun(tmp_path, tiny, KINDS["full"], every={"iterations": None, "seconds": None})
    attempt = run.launch(failpoints="trainer.iteration.end:delay=0.3")
    assert attempt.wait_until(lambda beat: beat["phase"] == "train" and beat["iteration"] == 5)
    attempt.send(signal.SIGTERM)
    attempt.send(signal.SIGTERM)  # the second one changes nothing

    assert attempt.wait() == 75
    stopped = attempt.of_kind("stopped")[0]
    newest = read(run.checkpoints[0])
    assert stopped["signal"] == "SIGTERM"
    assert stopped["iteration"] in {5, 6}
    assert (newest.iteration, newest.step) == (stopped["iteration"] // 2 * 2, stopped["iteration"] // 2)

    run.finish()
    assert adapters_of(run.adapter) == references("full")


def test_stopping_in_a_validation_commits_what_was_completed(tiny, references, tmp_path):
    run = TrainerRun(tmp_path, tiny, KINDS["lora"], every={"iterations": None, "seconds": None})
    attempt = run.launch(failpoints="trainer.validate.batch:delay=0.4")
    assert attempt.wait_until(lambda beat: beat["phase"] == "validate" and beat["iteration"] == 6)
    attempt.send(signal.SIGTERM)

    assert attempt.wait() == 75
    assert run.checkpoints[0].name == "00000006-a1"
    run.finish()
    assert adapters_of(run.adapter) == references("lora")


def test_stopping_while_loading_ends_at_once(tiny, tmp_path):
    run = TrainerRun(tmp_path, tiny, KINDS["lora"])
    attempt = run.launch(failpoints="trainer.load.before:delay=60")
    assert attempt.wait_until(lambda _beat: (run.folder / "inputs.json").exists())
    attempt.send(signal.SIGTERM)

    assert attempt.wait(20) == 75
    assert not run.checkpoints


def test_more_iterations_after_the_end_go_on_exactly(tiny, references, tmp_path):
    """The validation that runs only because the run ended must leave no trace in the order of the data."""
    run = TrainerRun(tmp_path, tiny, KINDS["lora"] | {"iters": 12})
    run.finish()
    run.config = KINDS["lora"]

    attempt = run.finish()

    assert attempt.of_kind("start")[0]["from_iteration"] == 12
    assert adapters_of(run.adapter)["adapters.safetensors"] == references("lora")["adapters.safetensors"]


def test_a_nan_stops_the_run_before_anything_poisoned_is_written(tiny, references, tmp_path):
    run = TrainerRun(tmp_path, tiny, KINDS["lora"])
    attempt = run.launch(drill=[{"fault": "nan", "at": 11}])

    assert attempt.wait() == 70
    fault = attempt.of_kind("fault")[0]
    assert (fault["cause"], fault["iteration"]) == ("nan_loss", 11)
    assert fault["last_finite"]["iteration"] == 10
    line = r"stoker: nan_loss: train loss is nan at iteration 11 \(last finite report: [0-9.]+ at iteration 10\)"
    assert re.search(line, attempt.log)
    assert run.checkpoints[0].name == "00000008-a1"
    for path in [run.adapter / "adapters.safetensors", *(checkpoint / WEIGHTS for checkpoint in run.checkpoints)]:
        assert all(np.isfinite(value).all() for value in tensors(path).values())

    run.finish()
    assert adapters_of(run.adapter) == references("lora")


@pytest.mark.parametrize(("dtype", "kind"), [("F32", "<f4"), ("F16", "<f2")])
@pytest.mark.parametrize("poison", [np.nan, np.inf, -np.inf])
def test_one_poisoned_parameter_is_found_among_many(dtype, kind, poison):
    values = np.linspace(-6e4, 6e4, 200_000).astype(kind)
    good = HostTensor("good", dtype, values.shape, memoryview(values.tobytes()))
    values[123_456] = poison
    bad = HostTensor("bad", dtype, values.shape, memoryview(values.tobytes()))
    counter = HostTensor("step", "U64", (1,), memoryview(b"\xff" * 8))

    assert not_finite((good, bad, counter)) == ["bad"]
    with pytest.raises(Fault, match=r"1 of 2 parameters are not finite \(bad\)") as raised:
        Guard(None).check_parameters(8, (good, bad))
    assert (raised.value.cause, raised.value.iteration) == ("nan_loss", 8)


def test_a_batch_without_target_tokens_names_its_lines(tmp_path):
    """Prompts longer than max_seq_length with mask_prompt leave nothing to learn: 0/0, which is not the model's fault."""
    tiny = tiny_for_tests(tmp_path / "tiny", style="prompt")
    rows = [{"prompt": "the fire " * 200, "completion": "coal"}] * 8
    (tiny.data / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    run = TrainerRun(tmp_path / "run", tiny, KINDS["lora"] | {"mask_prompt": True, "max_seq_length": 64})
    attempt = run.launch()

    assert attempt.wait() == 70
    fault = attempt.of_kind("fault")[0]
    assert (fault["cause"], fault["iteration"]) == ("data_error", 1)
    assert re.search(r"train\.jsonl, numbers are lines, examples \d+, \d+, \d+ and 1 more", fault["what"])


def test_changed_inputs_are_refused_until_they_are_accepted(tiny, tmp_path):
    mine = shutil.copytree(tiny.data.parent, tmp_path / "tiny")
    run = TrainerRun(tmp_path / "run", type(tiny)(mine / "model", mine / "data"), KINDS["lora"] | {"iters": 8})
    first = run.launch(drill=[{"fault": "kill", "at": 5}])
    assert first.wait() == -9
    before = json.loads((run.folder / "inputs.json").read_bytes())
    with (mine / "data" / "train.jsonl").open("a") as file:
        file.write('{"text": "one more line"}\n')

    refused = run.launch()
    assert refused.wait() == 70
    assert "stoker: checkpoint_mismatch: inputs changed: data train.jsonl: " in refused.log
    assert before["data"]["train.jsonl"][:12] in refused.log
    assert json.loads((run.folder / "inputs.json").read_bytes()) == before

    accepted = run.finish(accept_changed=True)
    start = accepted.of_kind("start")[0]
    assert (start["resume"], start["from_iteration"]) == ("warm", 4)
    assert start["label_reasons"][0].startswith("inputs_changed: data train.jsonl")


def test_another_version_is_refused_with_both_values(tiny, tmp_path):
    run = TrainerRun(tmp_path, tiny, KINDS["lora"] | {"iters": 4})
    run.finish()
    path = run.folder / "inputs.json"
    path.write_text(path.read_text().replace(f'"mlx": "{versions()["mlx"]}"', '"mlx": "0.1.2"'))

    attempt = run.launch()

    assert attempt.wait() == 70
    assert f"version of mlx: 0.1.2 at the first load, {versions()['mlx']} now" in attempt.log


def test_a_checkpoint_of_another_kind_is_refused(tiny, tmp_path):
    """Stock mlx-lm would load none of it and train silently from the base weights."""
    run = TrainerRun(tmp_path, tiny, KINDS["lora"] | {"iters": 4})
    run.finish()
    run.config = KINDS["full"]

    attempt = run.launch()

    assert attempt.wait() == 70
    assert "stoker: checkpoint_mismatch:" in attempt.log
    assert "is not a parameter of this run" in attempt.log


def test_a_truncated_checkpoint_is_refused_and_the_older_one_is_exact(tiny, references, tmp_path):
    run = TrainerRun(tmp_path, tiny, KINDS["lora"])
    assert run.launch(drill=[{"fault": "truncate", "at": 9}]).wait() == -9
    torn = run.checkpoints[0]
    assert torn.name == "00000008-a1"

    refused = run.launch()
    assert refused.wait() == 70
    assert "is damaged: weights.safetensors" in refused.log

    shutil.rmtree(torn)  # as the daemon's quarantine would
    run.finish()
    assert adapters_of(run.adapter) == references("lora")


@pytest.mark.parametrize("point", ["checkpoint.optimizer.write:enospc", "adapter.save.fsync:enospc"])
def test_a_full_disk_leaves_older_checkpoints_alone(point, tiny, references, tmp_path):
    run = TrainerRun(tmp_path, tiny, KINDS["lora"])
    assert run.launch(drill=[{"fault": "kill", "at": 7}]).wait() == -9

    attempt = run.launch(failpoints=point)

    assert attempt.wait() == 70
    assert attempt.of_kind("fault")[0]["cause"] == "disk_full"
    assert "stoker: disk_full: cannot write" in attempt.log
    assert not any((run.folder / "staging").iterdir())
    assert not list(run.adapter.glob(".stoker-*"))
    run.check_whole()
    run.finish()
    assert adapters_of(run.adapter) == references("lora")


def test_a_warm_start_keeps_the_position_and_says_so(tiny, tmp_path):
    run = TrainerRun(tmp_path, tiny, KINDS["full"] | {"iters": 12})
    assert run.launch(drill=[{"fault": "kill", "at": 8}]).wait() == -9

    attempt = run.finish(mode="warm")

    start = attempt.of_kind("start")[0]
    assert (start["resume"], start["from_iteration"]) == ("warm", 8)
    assert start["label_reasons"][0].startswith("weights_only: ")
    assert attempt.of_kind("train")[-1]["step"] == 6


def test_a_learning_rate_factor_multiplies_the_schedule_also_after_a_resume(tiny, tmp_path):
    factors = {"learning_rate": [{"from_step": 2, "factor": 0.5, "ramp_steps": 3}]}
    run = TrainerRun(tmp_path, tiny, KINDS["lora"] | {"iters": 12, "steps_per_report": 2})

    attempts = [run.launch(drill=[{"fault": "kill", "at": 9}], **factors)]
    assert attempts[0].wait() == -9
    attempts.append(run.finish(**factors))

    rates = {row["iteration"]: row["learning_rate"] for attempt in attempts for row in attempt.of_kind("train")}
    assert list(rates.values()) == pytest.approx([1e-3, 1e-3, 1.25e-4, 2.5e-4, 3.75e-4, 5e-4], rel=1e-5)
    assert attempts[1].of_kind("start")[0]["from_iteration"] == 8


def test_the_oom_drill_ends_with_a_smaller_micro_batch(tiny, tmp_path):
    run = TrainerRun(tmp_path, tiny, KINDS["lora"] | {"iters": 4})
    drill = [{"fault": "oom", "above": 2, "at": 3}]
    attempt = run.launch(drill=drill)

    assert attempt.wait() == 1
    assert "stoker: drill: oom is simulated on this backend" in attempt.log
    assert "kIOGPUCommandBufferCallbackErrorOutOfMemory" in attempt.log
    assert attempt.heartbeat()["iteration"] == 2
    run.finish(drill=drill, micro_batch=2)


def test_the_test_set_is_evaluated_after_the_final_adapter(tiny, tmp_path):
    config = KINDS["lora"] | {"iters": 4, "test": True, "test_batches": 1}
    attempt = TrainerRun(tmp_path / "good", tiny, config).finish()
    assert [row["kind"] for row in attempt.rows][-2:] == ["final", "test"]

    failing = TrainerRun(tmp_path / "bad", tiny, config).finish(failpoints="trainer.validate.batch:eio@5")
    assert [row["kind"] for row in failing.rows][-2:] == ["final", "warning"]
    assert "the test after training failed" in failing.log


def test_random_moments_of_death_leave_only_whole_files(tiny, references, tmp_path):
    """Kills at moments that no point names, with a writer that is slowed down so that many of them fall into it."""
    run = TrainerRun(tmp_path, tiny, KINDS["lora"], every={"iterations": 2, "seconds": None})
    source = random.Random(5)
    for _ in range(3):
        attempt = run.launch(failpoints="checkpoint.weights.write:delay=0.05,checkpoint.manifest.before:delay=0.05")
        begun = int(run.checkpoints[0].name.split("-")[0]) if run.checkpoints else 0
        target = begun + source.randint(2, 4)
        attempt.wait_until(lambda beat, target=target: beat["iteration"] >= target)
        attempt.send(signal.SIGKILL)
        attempt.wait()
        run.check_whole()
    run.finish()
    assert adapters_of(run.adapter) == references("lora")


def test_the_installed_mlx_lm_was_reviewed():
    import mlx_lm

    assert is_proved(Path(mlx_lm.__path__[0])), "read the difference of its train() and add its hash to reviewed.json"


def test_a_full_fine_tune_of_the_top_layers_only_stops_before_its_first_step(tiny, tmp_path):
    run = TrainerRun(tmp_path, tiny, KINDS["full"] | {"num_layers": 2})
    attempt = run.launch()

    assert attempt.wait() == 70
    assert attempt.of_kind("fault")[0]["cause"] == "top_layers_only"
    assert "stoker: top_layers_only: 50.0% of the parameters in the model's 4 layers are trained" in attempt.log
    assert not attempt.of_kind("train")
    assert run.finish(allow_partial=True).of_kind("final")
