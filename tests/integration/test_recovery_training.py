"""Real training under a real daemon that is killed, damaged, stopped and misled: what must hold at the end of each run."""

import json
import random
import shutil
import subprocess
import sys

import pytest
import yaml
from harness_trainer import environment
from harness_training import BASE, FULL, LORA, SLOW, Stock, causes, sha256_of_file, warm_up

from stoker.recovery.checkpoint.manifest import OPTIMIZER, WEIGHTS
from stoker.supervisor.child import find
from stoker.supervisor.cli.asking import ask
from stoker.supervisor.demo.tiny import make_tiny

pytestmark = pytest.mark.training

EXAMPLES = 40  # ten batches an epoch: a short run passes several


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tiny")
    made = make_tiny(folder, examples=EXAMPLES)
    warm_up(folder / "full", "full", made, FULL)
    warm_up(folder / "lora", "lora", made, LORA)
    return made


@pytest.fixture(scope="module")
def reference(tmp_path_factory):
    return Stock(tmp_path_factory.mktemp("stock"))


def assert_equals_stock(works, shown, reference):
    """The final adapter is byte for byte what the uninterrupted stock command makes of attempts/1/config.yaml."""
    assert shown["exact"] is True
    assert shown["adjustments"] == []
    assert shown["final"]["sha256"] == reference.sha256(works.paths(shown["run_id"]).attempt(1).config)


def losses(works, shown):
    """The reported train losses of the lineage: iteration -> loss, of the newest attempt that reported it."""
    found = {}
    for attempt in shown["attempts"]:
        for row in works.rows(shown["run_id"], attempt["n"], "train"):
            found[row["iteration"]] = row["train_loss"]
    return found


# ---- killed ----------------------------------------------------------------------------------------------------------


MORE = [pytest.param(kind, seed, marks=pytest.mark.exact) for seed in range(20, 25) for kind in (FULL, LORA)]


@pytest.mark.parametrize(("kind", "seed"), [(FULL, 11), (LORA, 12), *MORE])
def test_three_kills_from_outside_do_not_change_the_weights(kind, seed, tiny, works, reference):
    source = random.Random(seed)
    works.start(failpoints=SLOW)
    run = works.train("killed", tiny, kind)

    for n in (1, 2, 3):
        attempt = works.reach_iteration(run, n, source.randint(9 * n - 6, 9 * n))
        works.kill_trainer(attempt)
        works.wait(lambda n=n: works.show(run)["attempt"] > n, f"attempt {n + 1} starts")

    shown = works.ended(run)
    assert causes(shown) == ["killed"] * 3 + ["healthy"]
    assert [attempt["signal"] for attempt in shown["attempts"]] == ["SIGKILL"] * 3 + [None]
    assert [attempt["resume"] for attempt in shown["attempts"]] == ["fresh"] + ["exact"] * 3
    assert_equals_stock(works, shown, reference)


def test_the_death_of_the_daemon_does_not_touch_its_trainer(tiny, works, reference):
    works.start(failpoints=SLOW)
    run = works.train("adopted", tiny, FULL)
    attempt = works.reach_iteration(run, 1, 5)
    pid = find(attempt).trainer_pid
    works.kill()
    works.reach_iteration(run, 1, 8)

    works.start()

    shown = works.ended(run)
    assert len(shown["attempts"]) == 1
    assert find(attempt).trainer_pid == pid
    assert_equals_stock(works, shown, reference)


# ---- damaged checkpoints ---------------------------------------------------------------------------------------------


def truncate(checkpoint):
    with (checkpoint / WEIGHTS).open("r+b") as file:
        file.truncate((checkpoint / WEIGHTS).stat().st_size * 2 // 3)


def zero_half(checkpoint):
    path = checkpoint / WEIGHTS
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2] + bytes(len(data) - len(data) // 2))


def flip_a_bit(checkpoint):
    path = checkpoint / OPTIMIZER
    data = bytearray(path.read_bytes())
    data[len(data) * 3 // 4] ^= 0x04
    path.write_bytes(data)


DAMAGES = [(truncate, WEIGHTS), (zero_half, WEIGHTS), (flip_a_bit, OPTIMIZER)]


def test_a_damaged_checkpoint_is_never_loaded(tiny, works, reference):
    """Everything is dead when the damage is done; one run meets each kind of damage in turn."""
    works.start(failpoints=SLOW)
    run = works.train("damaged", tiny, FULL)
    paths, damaged = works.paths(run), []

    for n, (damage, file) in enumerate(DAMAGES, start=1):
        attempt = works.reach_iteration(run, n, 9 * n)
        works.kill_everything(attempt)
        newest, before = works.checkpoints(run)[:2]
        damage(newest)
        damaged.append(newest.name)
        works.start(failpoints=SLOW)
        works.wait(lambda n=n: works.show(run)["attempt"] > n, f"attempt {n + 1} starts")
        assert works.show(run)["attempts"][n]["checkpoint"] == before.name
        assert file in (paths.quarantine / f"{newest.name}.problems.txt").read_text()
        assert (paths.quarantine / newest.name / file).exists()

    shown = works.ended(run)
    assert len(shown["attempts"]) == 4
    assert not set(damaged) & {attempt["checkpoint"] for attempt in shown["attempts"]}
    rejected = [row["name"] for attempt in shown["attempts"] for row in attempt["rejected"]]
    assert rejected == damaged
    explained = works.stoker("explain", run).stdout
    assert all(name in explained for name in damaged)
    assert_equals_stock(works, shown, reference)


# ---- out of memory ---------------------------------------------------------------------------------------------------


def test_out_of_memory_splits_the_batch_and_changes_nothing_else(tiny, works):
    works.start()
    job = FULL | {"batch_size": 8, "iters": 20, "steps_per_report": 2}
    whole = works.ended(works.train("whole", tiny, job))
    split = works.ended(works.train("split", tiny, job, drill=[{"fault": "oom", "above": 2}]))

    assert causes(split) == ["oom", "oom", "healthy"]
    assert [(a["field"], a["from"], a["to"]) for a in split["adjustments"]] == [
        ("micro_batch", 8, 4),
        ("micro_batch", 4, 2),
    ]
    assert all(
        {"effective_batch", "data_order", "iterations", "schedule"} <= set(a["preserves"]) for a in split["adjustments"]
    )
    ours, theirs = losses(works, split), losses(works, whole)
    assert ours.keys() == theirs.keys()
    assert list(ours.values()) == pytest.approx(list(theirs.values()), rel=1e-4)
    last = [works.rows(shown["run_id"], len(shown["attempts"]), "train")[-1] for shown in (split, whole)]
    for key in ("iteration", "step", "effective_batch", "trained_tokens", "learning_rate"):
        assert last[0][key] == pytest.approx(last[1][key]), key
    assert (last[0]["micro_batch"], last[1]["micro_batch"]) == (2, 8)
    assert any(finding["simulated"] for finding in split["attempts"][0]["findings"])


# ---- a full disk -----------------------------------------------------------------------------------------------------


def test_a_disk_that_fills_up_in_the_middle_of_a_checkpoint_only_delays_the_run(tiny, works, reference):
    works.start(failpoints="checkpoint.optimizer.write:enospc@3")
    run = works.train("full-disk", tiny, FULL, checkpoint={"every": 1})

    held = works.wait_state(run, "held", "completed", "failed")
    assert (held["state"], held["release"], causes(held)) == ("held", "disk", ["disk_full"]), works.story(held)
    assert "No space left on device" in held["reason"]
    assert "goes on by itself" in held["reason"]
    assert [path.name for path in works.checkpoints(run)] == ["00000004-a1", "00000002-a1"]
    assert works.stoker("verify", *works.checkpoints(run)).returncode == 0
    assert list(works.paths(run).staging.iterdir()) == []

    works.stop()
    works.start()  # from now on there is room
    shown = works.wait_state(run, "completed", "failed")
    assert causes(shown) == ["disk_full", "healthy"]
    assert (shown["attempts"][1]["checkpoint"], shown["attempts"][1]["resume"]) == ("00000004-a1", "exact")
    assert_equals_stock(works, shown, reference)


# ---- stopped ---------------------------------------------------------------------------------------------------------


def test_pausing_while_training_validating_and_loading_does_not_change_the_weights(tiny, works, reference):
    """In the middle of an accumulation, in a validation and before the model is there."""
    works.start(
        failpoints="trainer.iteration.end:delay=2@7,trainer.validate.batch:delay=2@3,trainer.load.before:delay=1"
    )
    run = works.train("paused", tiny, FULL)

    def pause(n, seen, what):
        works.reach(run, n, seen, what)
        ask(works.home, "pause", {"run": run})
        shown = works.wait_state(run, "held")
        assert shown["reason"] == "paused by you"
        assert shown["attempts"][-1]["exit_code"] == 75
        ask(works.home, "resume", {"run": run})
        return shown

    pause(1, lambda beat: beat.get("iteration") == 7, "is in the middle of an accumulation")
    assert works.rows(run, 1, "checkpoint")[-1]["iteration"] == 6
    pause(2, lambda beat: beat.get("phase") == "validate" and beat["iteration"] == 15, "validates")
    assert works.rows(run, 2, "checkpoint")[-1]["iteration"] == 14
    pause(3, lambda beat: beat.get("phase") == "load", "loads")

    shown = works.ended(run)
    assert [(a["from_iteration"], a["to_iteration"]) for a in shown["attempts"]] == [
        (0, 7),
        (6, 15),
        (14, 14),
        (14, 30),
    ]
    assert_equals_stock(works, shown, reference)


# ---- misled ----------------------------------------------------------------------------------------------------------


def test_changed_inputs_are_held_until_a_person_accepts_them(tiny, works, tmp_path):
    mine = shutil.copytree(tiny.data.parent, tmp_path / "mine")
    works.start(failpoints=SLOW)
    run = works.train("changed", type(tiny)(mine / "model", mine / "data"), FULL)
    works.reach_iteration(run, 1, 9)
    ask(works.home, "pause", {"run": run})
    works.wait_state(run, "held")
    before = json.loads(works.paths(run).inputs.read_bytes())["data"]["train.jsonl"]
    with (mine / "data" / "train.jsonl").open("a") as file:
        file.write('{"text": "one more line"}\n')
    now = sha256_of_file(mine / "data" / "train.jsonl")

    ask(works.home, "resume", {"run": run})
    works.wait(lambda: works.show(run)["attempt"] == 2, "attempt 2 starts")
    held = works.wait_state(run, "held")
    assert held["attempts"][-1]["cause"] == "checkpoint_mismatch"
    for part in ("train.jsonl", before[:12], now[:12], "--accept-changed-data"):
        assert part in held["reason"]

    accepted = works.stoker("resume", run, "--accept-changed-data")
    assert accepted.returncode == 0, accepted.stderr
    works.wait(lambda: works.show(run)["attempt"] == 3, "attempt 3 starts")
    shown = works.ended(run)
    assert shown["exact"] is False
    assert shown["attempts"][-1]["resume"] == "warm"
    assert shown["attempts"][-1]["from_iteration"] > 0
    assert any(reason.startswith("inputs_changed: data train.jsonl") for reason in shown["label_reasons"])


def test_what_only_training_can_find_out_fails_at_once_with_its_cause(tiny, works, tmp_path):
    """Preflight checks refuse each of them; here they are overridden, or the model changes after the job was accepted."""
    broken = shutil.copytree(tiny.data.parent, tmp_path / "broken")
    with (broken / "data" / "train.jsonl").open("a") as file:
        file.write('{"text": "no end\n')
    torn = shutil.copytree(tiny.data.parent, tmp_path / "torn")
    with (torn / "model" / "model.safetensors").open("r+b") as file:
        file.truncate(100_000)
    refused = {
        "layers": (tiny, LORA | {"num_layers": 9}, "too-many-layers"),
        "broken": (type(tiny)(broken / "model", broken / "data"), FULL, "data-format"),
        "torn": (type(tiny)(torn / "model", torn / "data"), FULL, "weights"),
    }
    for name, (parts, keys, check) in refused.items():
        job = {"model": str(parts.model), "data": str(parts.data), **BASE, **keys}
        answer = works.stoker("submit", works.write(f"{name}.yaml", yaml.safe_dump(job).encode()))
        assert answer.returncode == 2, answer.stdout + answer.stderr
        assert check in answer.stderr
    assert works.runs() == []

    other = make_tiny(tmp_path / "other", examples=EXAMPLES)
    runs = {"layers": works.train("layers", other, LORA)}  # no daemon yet: it waits in the queue
    make_tiny(tmp_path / "other", examples=EXAMPLES, layers=2)
    for name in ("broken", "torn"):
        parts, keys, check = refused[name]
        runs[name] = works.train(name, parts, keys, preflight={"allow": [check]})
    works.start()
    for name, cause, words in (
        ("layers", "config_error", "Requested to train 4 layers but the model only has 2"),
        ("broken", "data_error", "line"),
        ("torn", "model_load_error", "incomplete download or corrupt file"),
    ):
        shown = works.ended(runs[name], "failed")
        assert causes(shown) == [cause], works.story(shown)
        assert words in shown["reason"]
        assert shown["attempts"][0]["findings"]


# ---- adapters --------------------------------------------------------------------------------------------------------

USE = """
import sys
from mlx_lm import generate, load
model, tokenizer = load(sys.argv[1], adapter_path=sys.argv[2])
print(len(generate(model, tokenizer, "the stoker", max_tokens=4)) > 0)
"""


def test_the_adapter_folder_of_a_job_is_as_mlx_lm_would_leave_it(tiny, works, reference, tmp_path):
    """What was there before is moved aside, numbered files are there, and a run can start from an adapter of its own."""
    adapter = tmp_path / "adapter"
    adapter.mkdir()
    (adapter / "adapters.safetensors").write_bytes(b"of somebody")
    (adapter / "notes.txt").write_text("stays")
    works.start(failpoints=SLOW)
    run = works.train("own-folder", tiny, LORA, {"adapter_path": str(adapter)})
    attempt = works.reach_iteration(run, 1, 23)
    works.kill_trainer(attempt)

    shown = works.ended(run)

    assert causes(shown) == ["killed", "healthy"]
    assert_equals_stock(works, shown, reference)
    (previous,) = adapter.glob("previous-*")
    assert (previous / "adapters.safetensors").read_bytes() == b"of somebody"
    assert (adapter / "notes.txt").exists()
    assert "moved_aside" in works.events(run)
    names = sorted(path.name for path in adapter.glob("*_adapters.safetensors"))
    assert names == ["0000010_adapters.safetensors", "0000020_adapters.safetensors", "0000030_adapters.safetensors"]
    for name in names:
        assert sha256_of_file(adapter / name) == reference.sha256(attempt.config, name), name
    used = subprocess.run(
        [sys.executable, "-c", USE, str(tiny.model), str(adapter)],
        env=environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert used.stdout.strip() == "True", used.stderr[-2000:]

    start = {"resume_adapter_file": str(adapter / "0000010_adapters.safetensors"), "iters": 20}
    second = works.train("goes-on", tiny, LORA, start)
    attempt = works.reach_iteration(second, 1, 9)
    works.kill_trainer(attempt)
    shown = works.ended(second)
    assert causes(shown) == ["killed", "healthy"]
    assert_equals_stock(works, shown, reference)
