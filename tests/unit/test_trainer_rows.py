from pathlib import Path

import pytest

from stoker.profiles.facts import NO_DEFAULTS
from stoker.profiles.job import load_job
from stoker.profiles.mlx_keys import MlxLmKeys
from stoker.profiles.trainer_rows import RowError, capabilities, read_row, trainer_rows

ROWS = trainer_rows()
SOURCE = {
    name: (Path(__file__).parents[2] / "profiles" / "trainers" / f"{name}.yaml").read_text(encoding="utf-8")
    for name in ROWS
}


def test_the_trainers_that_are_there():
    assert set(ROWS) == {"mlx-lm", "command"}


@pytest.mark.parametrize("name", ROWS)
def test_the_example_of_a_row_is_a_job_of_that_row(name):
    job, problems = load_job(ROWS[name].example.encode(), file="x.yaml", base_dir=None, defaults=NO_DEFAULTS)
    assert job is not None, list(map(str, problems))
    assert job.row.name == name


@pytest.mark.parametrize("name", ROWS)
def test_the_keys_of_a_row_have_a_type(name):
    assert set(ROWS[name].keys) <= {*MlxLmKeys.model_fields, "config"}


def test_all_typed_keys_are_known_to_mlx_lm():
    assert set(MlxLmKeys.model_fields) <= set(ROWS["mlx-lm"].keys)


def test_what_exit_codes_mean():
    assert ROWS["mlx-lm"].exit_codes == {0: "finished", 70: "guard", 75: "interrupted"}
    assert ROWS["command"].exit_codes == {0: "finished"}


def test_success_is_evidence():
    assert ROWS["mlx-lm"].success == ("last_iteration", "adapter_verified", "finite", "changed")
    assert ROWS["command"].success == ("exit_zero",)


def test_only_what_a_command_takes_can_be_adjusted():
    row = ROWS["command"]
    assert capabilities(row, ("x",)) == frozenset()
    assert capabilities(row, ("x", "--batch={batch_size}", "{learning_rate}")) == {"batch_size", "learning_rate"}
    assert capabilities(ROWS["mlx-lm"], ()) == {
        "resume", "micro_batch", "grad_checkpoint", "learning_rate", "max_seq_length",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("old", "new", "part"),
    [
        ("resume: exact", "resume: maybe", "mlx-lm.yaml:"),
        ("checkpoints: stoker", "checkpoints: trainer", "exact resume needs"),
        ('"0": finished', '"0": guard', "exit code 0"),
        ('"70": guard', '"seventy": guard', "exit_codes"),
        ("- [model]", "- [modle]", "modle"),
        ("lora_layers: num_layers", "lora_layers: layers", "layers"),
        ("lora_layers: num_layers", "iters: num_layers", "valid themselves"),
        ("dialect: mlx-lm", "dialect: [mlx-lm]", "dialect"),
        ("dialect: mlx-lm", "colour: red", "colour"),
        ("name: mlx-lm", "name: mlx", "one name"),
        ("resume: exact", "resume: exact\nresume: none", "duplicate key"),
    ],
)
def test_a_wrong_row_is_refused_with_its_line(old, new, part):
    assert old in SOURCE["mlx-lm"]
    with pytest.raises(RowError, match=r"mlx-lm\.yaml:\d+:") as caught:
        read_row(SOURCE["mlx-lm"].replace(old, new, 1).encode(), "mlx-lm.yaml")
    assert part in str(caught.value)
