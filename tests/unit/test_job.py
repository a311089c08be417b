from pathlib import Path

import pytest
from harness_malformed import HEAD, MALFORMED
from hypothesis import given
from hypothesis import strategies as st

from stoker.profiles.facts import NO_DEFAULTS, TrainerDefaults
from stoker.profiles.job import load_job, peek
from stoker.profiles.problem import MAX_PROBLEMS, nearest
from stoker.profiles.schema import AUTO, Every, parse_duration
from stoker.profiles.yaml_scalars import dump

HOME = Path("/home/me")
DEFAULTS = TrainerDefaults(
    {
        "model": "Qwen/Qwen3-0.6b",
        "train": False,
        "fine_tune_type": "lora",
        "optimizer_config": {"adam": {}, "adamw": {}, "muon": {}, "sgd": {}, "adafactor": {}},
        "iters": 1000,
        "batch_size": 4,
        "grad_accumulation_steps": 1,
        "lora_parameters": {"rank": 8, "dropout": 0.0, "scale": 20.0},
        "a_new_key": 3,
    },
    {"python": "3.12.1", "mlx": "0.32.4", "mlx_lm": "0.32.2", "numpy": "2.4"},
    "/py",
    packages=frozenset({"datasets", "wandb"}),
    schedules=("cosine_decay", "exponential_decay", "linear_schedule", "step_decay", "brand_new"),
)
STOCK = """\
# The path to the local model directory or Hugging Face repo.
model: "mlx-community/Llama-3.2-1B-Instruct"
train: true
fine_tune_type: lora
training_mode: normal
optimizer: adamw
optimizer_config:
  adamw:
    betas: [0.9, 0.98]
    eps: 1e-6
    weight_decay: 0.05
    bias_correction: true
data: "/path/to/training/data"
seed: 0
num_layers: 16
batch_size: 4
iters: 1000
val_batches: 25
learning_rate: 1e-5
steps_per_report: 10
steps_per_eval: 200
resume_adapter_file: null
adapter_path: "/path/to/adapters"
save_every: 100
test: false
test_batches: 100
max_seq_length: 2048
grad_checkpoint: false
lora_parameters:
  keys: ["self_attn.q_proj", "self_attn.v_proj"]
  rank: 8
  scale: 20.0
  dropout: 0.0
lr_schedule:
  name: cosine_decay
  warmup: 100 # 0 for no warmup
  warmup_init: 1e-7 # 0 if not specified
  arguments: [1e-5, 1000, 1e-7] # passed to scheduler
"""


def load(text, *, base_dir=None, defaults=DEFAULTS, file="inbox/sft.yaml", there=()):
    data = text if isinstance(text, bytes) else text.encode()
    return load_job(data, file=file, base_dir=base_dir, defaults=defaults, home=HOME, exists=set(there).__contains__)


def accepted(text, **kwargs):
    job, problems = load(text, **kwargs)
    assert job is not None, list(map(str, problems))
    return job


def errors(text, **kwargs):
    job, problems = load(text, **kwargs)
    found = [str(problem) for problem in problems if problem.severity == "error"]
    assert (job is None) == bool(found)
    return found


def test_a_configuration_that_people_use_with_mlx_lm_is_a_job_as_it_is():
    job = accepted(STOCK)
    assert job.name == "sft"
    assert job.config["learning_rate"] == pytest.approx(1e-5)
    assert "resume_adapter_file" not in job.config  # null = default
    assert [str(warning) for warning in job.warnings] == [
        "inbox/sft.yaml:5:1: training_mode: not a key of mlx-lm 0.32.2, passed on as it is"
    ]


def test_the_submitted_values_are_kept():
    job = accepted("model: a/b\ndata: /d\niters: 7\nmystery: [1, {a: b}]\n")
    assert job.config == {"model": "a/b", "data": "/d", "iters": 7, "mystery": [1, {"a": "b"}]}


@pytest.mark.parametrize("case", MALFORMED, ids=lambda case: case.name)
@pytest.mark.parametrize("defaults", [DEFAULTS, NO_DEFAULTS], ids=["probed", "not probed"])
def test_malformed_files_are_answered_with_the_place(case, defaults):
    job, problems = load(case.data, defaults=defaults)
    assert job is None
    found = [problem for problem in problems if problem.severity == "error"]
    assert found
    lines = case.data.count(b"\n") + 1
    assert all(1 <= problem.line <= lines and problem.column >= 1 for problem in problems)
    assert any(problem.line == case.line and case.part in str(problem) for problem in found), list(map(str, found))


def test_there_are_many_malformed_files_and_no_name_twice():
    assert len(MALFORMED) >= 60
    assert len({case.data for case in MALFORMED}) == len(MALFORMED)


def test_all_mistakes_are_reported_at_once_in_the_order_of_the_file():
    found = errors("model: a/b\ndata: /d\niters: x\nitres: 3\nstoker:\n  naem: a\n  priority: high\n")
    assert [line.split(":")[1] for line in found] == ["3", "4", "6", "7"]


def test_a_misspelt_required_key_is_reported_once():
    assert len(errors("modle: a/b\ndata: /d\n")) == 1


def test_very_many_mistakes_are_cut_off():
    _, problems = load("".join(f"iterss{n}: 1\n" for n in range(3000)))
    assert len(problems) == MAX_PROBLEMS
    assert "more" in problems[-1].message
    warnings = "".join(f"zzz{n}: 1\n" for n in range(200))
    _, problems = load(f"model: a/b\ndata: /d\n{warnings}iters: x\n")
    assert [problem.line for problem in problems if problem.severity == "error"] == [203]


def test_keys_that_only_the_interpreter_knows_are_known():
    assert accepted("model: a/b\ndata: /d\na_new_key: 4\n").warnings == ()


def test_terminal_escapes_do_not_reach_the_terminal():
    _, problems = load('model: a/b\ndata: /d\n"\\e[31mx": 1\n')
    assert "\x1b" not in str(problems[0])


class TestPaths:
    def test_relative_paths_start_at_base_dir(self):
        job = accepted("model: m\ndata: ./d\nadapter_path: out/a\n", base_dir=Path("/jobs"))
        assert job.config == {"model": "/jobs/m", "data": "/jobs/d", "adapter_path": "/jobs/out/a"}

    def test_the_job_may_say_where_they_start(self):
        job = accepted("model: m\ndata: d\nstoker: {base_dir: ~/work, recovery: {rules: r.yaml}}\n")
        assert job.config["data"] == "/home/me/work/d"
        assert job.stoker.recovery.rules == "/home/me/work/r.yaml"
        assert job.stoker.base_dir == "/home/me/work"

    def test_a_plain_drop_has_no_relative_paths(self):
        found = errors("model: m\ndata: data\nadapter_path: a\nresume_adapter_file: x.safetensors\n")
        assert len(found) == 4
        assert all("`stoker submit FILE`" in line and "base_dir" in line for line in found)

    def test_the_home_folder_is_known(self):
        assert accepted("model: ~/m\ndata: /d\n").config["model"] == "/home/me/m"

    def test_an_id_of_the_hub_is_no_path(self):
        job = accepted("model: org/name\ndata: org/set-1.0\n")
        assert job.config == {"model": "org/name", "data": "org/set-1.0"}

    @pytest.mark.parametrize("there", ["/jobs/data/sft", "/jobs/data"])
    def test_a_folder_of_the_job_is_no_id_of_the_hub(self, there):
        """With its first part there the rest is missing, which preflight says."""
        job = accepted("model: a/b\ndata: data/sft\n", base_dir=Path("/jobs"), there=[there])
        assert job.config["data"] == "/jobs/data/sft"

    def test_data_of_the_hub_needs_a_package(self):
        found = errors("model: a/b\ndata: data/sft\n", defaults=TrainerDefaults({}, {"mlx_lm": "0.32.2"}, "/py"))
        assert len(found) == 1
        assert "/py -m pip install datasets" in found[0]
        assert "base_dir" in found[0]

    def test_programs_of_a_command_are_left_to_path_unless_they_are_paths(self):
        text = "stoker: {trainer: command, command: [%s, data/x], notify: {command: [~/bin/n]}}\n"
        assert accepted(text % "python3").stoker.command == ("python3", "data/x")
        job = accepted(text % "./go", base_dir=Path("/jobs"))
        assert job.stoker.command == ("/jobs/go", "data/x")
        assert job.stoker.notify.command == ("/home/me/bin/n",)

    def test_the_interpreter_keeps_its_links(self):
        job = accepted("model: a/b\ndata: /d\nstoker: {python: .venv/bin/python}\n", base_dir=Path("/jobs"))
        assert job.stoker.python == "/jobs/.venv/bin/python"


class TestStokerKeys:
    def test_defaults(self):
        keys = accepted("model: a/b\ndata: /d\n").stoker
        assert (keys.trainer, keys.profile, keys.priority, keys.needs) == ("mlx-lm", "auto", 0, ())
        assert (keys.checkpoint.every, keys.checkpoint.keep) == (AUTO, None)
        assert (keys.recovery.lossy, keys.recovery.start_over) == ("allow", "ask")

    def test_null_is_the_default_at_every_depth(self):
        job = accepted("model: a/b\ndata: /d\ntrain: null\nstoker: {name: null, checkpoint: {every: null, keep: 2}}\n")
        assert job.stoker.checkpoint.every == AUTO
        assert job.name == "sft"
        assert accepted("model: a/b\ndata: /d\nstoker: null\n").stoker.trainer == "mlx-lm"

    @pytest.mark.parametrize(
        ("text", "every"),
        [("auto", AUTO), ("50", Every(50)), ("10m", Every(None, 600.0)), ("1h30m", Every(None, 5400.0))],
    )
    def test_every(self, text, every):
        job = accepted(f"model: a/b\ndata: /d\nstoker: {{checkpoint: {{every: {text}}}}}\n")
        assert job.stoker.checkpoint.every == every

    def test_drill(self):
        text = (
            "model: a/b\ndata: /d\nstoker:\n  drill:\n  - {fault: kill, at: 40}\n  - {fault: oom, above: 4}\n"
            "  - {fault: nan, at: 60, attempts: [1, 2]}\n  - {fault: hang, at: 9, attempts: all}\n"
        )
        drill = accepted(text).stoker.drill
        assert [fault.attempts for fault in drill] == [(1,), None, (1, 2), None]
        assert [[fault.strikes(n) for n in (1, 2, 3)] for fault in drill] == [
            [True, False, False],
            [True, True, True],
            [True, True, False],
            [True, True, True],
        ]

    def test_env_may_hold_numbers(self):
        assert accepted("model: a/b\ndata: /d\nstoker: {env: {OMP_NUM_THREADS: 4}}\n").stoker.env == {
            "OMP_NUM_THREADS": "4"
        }

    def test_values_of_env_are_in_no_message(self):
        found = errors("model: a/b\ndata: /d\nstoker: {env: {TOKEN: [secret-1], OTHER: secret-2}}\n")
        assert len(found) == 1
        assert "secret" not in found[0]

    def test_other_trainers_need_no_model_and_no_data(self):
        job = accepted('iters: 5\nstoker: {trainer: command, command: [x, "--n={iters}", "{run_dir}"]}\n')
        assert job.row.name == "command"


class TestLookBeforeLoading:
    def test_interpreter_and_trainer(self):
        look = peek(b"stoker: {python: .venv/bin/python, trainer: command}\n", base_dir=Path("/j"), home=HOME)
        assert (look.python, look.trainer, look.needs_interpreter) == ("/j/.venv/bin/python", "command", False)

    def test_nonsense_is_left_to_loading(self):
        for text in (b"stoker: 3", b"stoker: {python: [1], trainer: realign}", b"\0", b"stoker: {python: rel/x}"):
            look = peek(text, base_dir=None, home=None)
            assert (look.python, look.trainer, look.needs_interpreter) == (None, "mlx-lm", True)


@pytest.mark.parametrize(
    ("word", "close"),
    [
        ("itres", "iters"),
        ("iter", "iters"),
        ("batchSize", "batch_size"),
        ("seeed", "seed"),
        ("x" * 500, None),
        ("epochs", None),
    ],
)
def test_nearest(word, close):
    assert nearest(word, ["iters", "batch_size", "seed", "model"]) == close


@pytest.mark.parametrize(("text", "seconds"), [("90s", 90), ("2d", 172_800), ("", None), ("0m", None), ("5 m", None)])
def test_durations(text, seconds):
    assert parse_duration(text) == seconds


@given(st.binary(max_size=200))
def test_no_bytes_raise(data):
    job, problems = load(data)
    assert job is not None or problems


_WORDS = st.sampled_from(
    ["model", "data", "iters", "stoker", "drill", "command", "lr_schedule", "lora_parameters", "checkpoint", "every"]
)
_LEAVES = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=5)
    | st.sampled_from(["auto", "a/b", "~"])
)
_TREES = st.recursive(_LEAVES, lambda t: st.lists(t, max_size=3) | st.dictionaries(_WORDS, t, max_size=3), max_leaves=8)


@given(st.dictionaries(_WORDS | st.text("abc", min_size=1), _TREES, max_size=5))
def test_no_values_raise(value):
    job, problems = load(HEAD + dump(value).encode())
    assert job is not None or problems
