"""Which keys of an accepted job can be edited, how their values are read, and the job that results."""

import copy

import pytest

from stoker.profiles.edits import CONFIG_KEYS, HINT, Change, changed, read, without_secrets
from stoker.profiles.schema import StokerKeys

JOB = {"model": "/m", "iters": 100, "stoker": {"name": "j", "checkpoint": {"every": 50, "keep": 2}, "env": {"A": "1"}}}


@pytest.mark.parametrize(
    ("word", "path", "value"),
    [
        ("iters=200", "iters", 200),
        ("learning_rate=1e-5", "learning_rate", 1e-5),  # text for PyYAML alone, a number for mlx-lm
        ("save_every= 20 ", "save_every", 20),
        ("steps_per_eval=7", "steps_per_eval", 7),
        ("steps_per_report=3", "steps_per_report", 3),
        ("val_batches=-1", "val_batches", -1),
        ("grad_checkpoint=true", "grad_checkpoint", True),
        ("max_seq_length=null", "max_seq_length", None),
        ("micro_batch=2", "micro_batch", 2),
        ("stoker.priority=5", "stoker.priority", 5),
        ("stoker.needs=[a, b]", "stoker.needs", ["a", "b"]),
        ("stoker.checkpoint.every=10m", "stoker.checkpoint.every", "10m"),
        ("stoker.checkpoint={keep: 1}", "stoker.checkpoint", {"keep": 1}),
        ("stoker.recovery.lossy=never", "stoker.recovery.lossy", "never"),
        ("stoker.preflight.allow=[weights]", "stoker.preflight.allow", ["weights"]),
        ("stoker.notify.command=[/bin/true]", "stoker.notify.command", ["/bin/true"]),
        ("stoker.drill=[{fault: kill, at: 4}]", "stoker.drill", [{"fault": "kill", "at": 4}]),
        ("stoker.env.URL=http://a/?b=c#d", "stoker.env.URL", "http://a/?b=c#d"),
        ("stoker.env.NOTE='a # b'", "stoker.env.NOTE", "a # b"),
    ],
)
def test_a_key_and_its_value(word, path, value):
    assert read([word]) == ((Change(tuple(path.split(".")), value),), ())


def test_every_key_of_stoker_is_either_editable_or_a_new_job():
    for name in StokerKeys.model_fields:
        _, mistakes = read([f"stoker.{name}=null"])
        new_job = name in {"name", "profile", "python", "trainer", "command", "distributed", "base_dir"}
        assert bool(mistakes) == new_job
        assert (f"stoker.{name}" in HINT) != new_job
    assert all(key in HINT for key in CONFIG_KEYS)


@pytest.mark.parametrize(
    ("word", "words"),
    [
        ("itres=200", "itres: unknown key (did you mean iters?)"),
        ("lr=1e-5", "did you mean learning_rate?"),
        ("batch_size=4", "new job: stoker submit a copy (did you mean micro_batch?)"),
        ("model=/other", "model: a change of it is a new job: stoker submit a copy"),
        ("seed=1", "seed: a change of it is a new job"),
        ("something=1", "something: a change of it is a new job"),
        ("iters.x=1", "iters.x"),
        ("stoker.python=/usr/bin/python3", "stoker.python: a change of it is a new job"),
        ("stoker.prioritty=1", "did you mean stoker.priority?"),
        ("stoker.checkpoint..every=1", "stoker.checkpoint..every"),
        ("stoker={priority: 1}", "name the key below it"),
        ("stoker.=1", "stoker."),
        ("=1", "expected KEY=VALUE"),
        ("iters", "iters: expected KEY=VALUE"),
        ("iters=", "null stands for the default"),
        ("iters=200 # more", "put the value in quotes"),
        ("iters=1\nseed: 4", "one line"),
        ("iters={a: 1", "not YAML"),
        ("iters=- 3", "not YAML"),
        ("iters=*other", "no anchor"),
        ("stoker.env.A=!!python/name:os.x 1", "not allowed"),
        ("\x1b[2J=1", "?[2J"),
    ],
)
def test_what_is_refused_and_why(word, words):
    changes, mistakes = read([word])
    assert changes == ()
    assert len(mistakes) == 1
    assert words in mistakes[0]
    assert mistakes[0].isprintable()


def test_all_mistakes_are_named_at_once():
    changes, mistakes = read(["itres=1", "iters=200", "model=x", "save_every=", "iters=300", "stoker.env.A=b"])
    assert [change.key for change in changes] == ["iters", "stoker.env.A"]
    assert [mistake.split(":")[0] for mistake in mistakes] == ["itres", "model", "save_every", "iters is named twice"]


def test_a_key_and_what_stands_below_it_cannot_be_changed_at_once():
    for words in (["stoker.env={A: b}", "stoker.env.A=c"], ["stoker.env.A=c", "stoker.env={A: b}"]):
        (mistake,) = read(words)[1]
        assert "stoker.env.A" in mistake
        assert "twice" in mistake


def test_the_job_that_results():
    before = copy.deepcopy(JOB)
    changes, _ = read(["iters=200", "stoker.checkpoint.every=10m", "stoker.priority=5", "stoker.env.B=2"])
    result = changed(JOB, changes)
    assert result == {
        "model": "/m",
        "iters": 200,
        "stoker": {
            "name": "j",
            "checkpoint": {"every": "10m", "keep": 2},
            "env": {"A": "1", "B": 2},
            "priority": 5,
        },
    }
    assert before == JOB


@pytest.mark.parametrize(
    "stoker", [{}, {"stoker": None}, {"stoker": {"checkpoint": None}}, {"stoker": {"checkpoint": 3}}]
)
def test_mappings_that_are_missing_are_made(stoker):
    changes, _ = read(["stoker.checkpoint.keep=4"])
    assert changed({"iters": 1, **stoker}, changes)["stoker"]["checkpoint"] == {"keep": 4}


def test_values_of_environment_variables_are_not_kept():
    words = ["iters=3", "stoker.env.TOKEN=hunter2", "stoker.env={A: hunter2}", "stoker={env: {A: hunter2}}", "odd"]
    assert "hunter2" not in str(without_secrets(words))
    assert without_secrets(words)[0] == "iters=3"
    assert without_secrets(words)[-1] == "odd"
    assert read(["stoker.env.A=b"])[0][0].secret
    assert not read(["stoker.priority=1"])[0][0].secret
