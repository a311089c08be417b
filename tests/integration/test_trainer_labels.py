"""What an attempt is called, and that its name does not decide what it restores."""

from pathlib import Path
from types import SimpleNamespace

import pytest
from harness_machine import machine_of
from harness_trainer import KINDS, TrainerRun, adapters_of, stock, tiny_for_tests

from stoker.supervisor.trainer.inputs import Agreement
from stoker.supervisor.trainer.launch import Launch, Resume, Rhythm
from stoker.supervisor.trainer.machine import Machine
from stoker.supervisor.trainer.run import Run

VERSIONS = {"python": "3.12.1", "mlx": "0.32.4", "mlx_lm": "0.99.0", "numpy": "2.4.0", "stoker": "0.1.0"}
LINUX, MAC = (Machine("some device", system, VERSIONS) for system in ("Linux", "Darwin 25.5.0"))
PLACES = dict.fromkeys(("directory", "checkpoints", "staging", "inputs"), Path("/nowhere"))
REST = {"run_id": "r_1", "attempt": 2, "keep": 3, "min_free": 0, "suspect": None, "allow_partial": False, "test": False}


def run_of(*, mode="exact", proved=True, accepted=(), machine=LINUX, saved=True, experts=False, **wants):
    """A run that resumes, unless `saved` is false."""
    launch = {"micro_batch": None, "learning_rate": (), "labels": (), "exactness": (), **wants}
    resume = Resume(Path("/nowhere/00000008-a1"), mode) if saved else None
    rhythm = Rhythm(iterations=4, seconds=None)
    asked = Launch(**PLACES, **REST, resume=resume, rhythm=rhythm, accept_changed=bool(accepted), drill=(), **launch)
    agreement = Agreement(SimpleNamespace(), tuple(accepted))
    parts = {"heartbeat": None, "metrics": None, "stop": None, "versions": VERSIONS, "agreement": agreement}
    parts["experts_drop_out"] = experts
    return Run(launch=asked, saved=object() if saved else None, proved=proved, machine=machine, **parts)


@pytest.mark.parametrize(
    ("facts", "label", "reasons"),
    [
        ({}, "exact", []),
        ({"mode": "warm"}, "warm", ["weights_only: the optimizer's moments start anew"]),
        ({"accepted": ["data train.jsonl: a, b now"]}, "warm", ["inputs_changed: data train.jsonl: a, b now"]),
        (
            {"proved": False},
            "warm",
            ["unproved_mlx_lm: the training code of mlx-lm 0.99.0 was not reviewed"],
        ),
        ({"machine": MAC}, "warm", ["unproved_machine: nobody has tried"]),
        ({"machine": MAC, "exactness": ({"machine": MAC.as_json(), "exact": True},)}, "exact", []),
        ({"micro_batch": 2}, "exact", ["micro_batch: gradients are summed over groups of 2 rows"]),
        ({"micro_batch": 2, "labels": ("micro_batch: 4 -> 2 at 8",)}, "exact", ["micro_batch: 4 -> 2 at 8"]),
        (
            {"micro_batch": 2, "labels": ("micro_batch: 4 -> 2 at 8",), "experts": True},
            "exact",
            ["micro_batch: the dropout masks of expert layers differ", "micro_batch: 4 -> 2 at 8"],
        ),
        ({"experts": True}, "exact", []),
        ({"learning_rate": ("a factor",)}, "exact", ["learning_rate: multiplied from a step on"]),
        ({"labels": ("edited: val_batches 2 -> 4",), "proved": False}, "warm", ["unproved_mlx_lm: ", "edited: "]),
        ({"saved": False}, "fresh", []),
        ({"saved": False, "proved": False}, "fresh", ["unproved_mlx_lm: "]),
    ],
)
def test_what_an_attempt_is_called_and_why(facts, label, reasons):
    run = run_of(**facts)
    assert run.resume == label
    assert len(run.label_reasons) == len(reasons)
    assert all(found.startswith(words) for found, words in zip(run.label_reasons, reasons, strict=True))


@pytest.mark.training
def test_an_unproved_machine_is_called_warm_and_restores_everything_all_the_same(tmp_path):
    tiny = tiny_for_tests(tmp_path / "tiny")
    config = KINDS["lora"] | {"iters": 16}
    expected = adapters_of(stock(tiny, config, tmp_path / "stock"))
    run = TrainerRun(tmp_path / "run", tiny, config)
    assert run.launch(drill=[{"fault": "kill", "at": 11}]).wait() == -9
    verdict = {"machine": machine_of(), "exact": False}

    resumed = run.finish(exactness=[verdict]).of_kind("start")[0]

    assert (resumed["resume"], resumed["from_iteration"]) == ("warm", 8)
    assert [reason.split(":")[0] for reason in resumed["label_reasons"]] == ["unproved_machine"]
    assert adapters_of(run.adapter) == expected
