"""The jobs of the demonstration and of trials, and the stock run that they are held against."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from stoker.profiles.yaml_scalars import dump
from stoker.recovery.checkpoint.manifest import sha256_of
from stoker.supervisor.demo.tiny import Tiny
from stoker.supervisor.errors import StokerError

TRIAL_KILL = 13  # iteration after which a trial is killed

_COMMON = {
    "fine_tune_type": "full",
    "max_seq_length": 64,
    "steps_per_report": 5,
    "steps_per_eval": 20,
    "val_batches": 2,
    "seed": 7,
}


def four_faults(tiny: Tiny) -> dict[str, Any]:
    """Return a job that meets out of memory, a kill, a truncated checkpoint and, twice at the same place, a NaN."""
    return {
        "model": str(tiny.model),
        "data": str(tiny.data),
        **_COMMON,
        "iters": 60,
        "batch_size": 8,
        "learning_rate": 1e-3,
        "save_every": 30,
        "stoker": {
            "name": "four-faults",
            "checkpoint": {"every": 3},
            "drill": [
                {"fault": "oom", "above": 4},
                {"fault": "kill", "at": 20, "attempts": [2]},
                {"fault": "truncate", "at": 35, "attempts": [3]},
                {"fault": "nan", "at": 47, "attempts": [4, 5]},
            ],
        },
    }


def only_kills(tiny: Tiny) -> dict[str, Any]:
    """Return a job that is killed three times and changed by nothing."""
    return {
        "model": str(tiny.model),
        "data": str(tiny.data),
        **_COMMON,
        "iters": 40,
        "batch_size": 4,
        "grad_accumulation_steps": 2,
        "learning_rate": 1e-3,
        "save_every": 20,
        "stoker": {
            "name": "only-kills",
            "checkpoint": {"every": 2},
            "drill": [
                {"fault": "kill", "at": 9, "attempts": [1]},
                {"fault": "kill", "at": 22, "attempts": [2]},
                {"fault": "kill", "at": 33, "attempts": [3]},
            ],
        },
    }


def trial(kind: str, tiny: Tiny, python: Path) -> dict[str, Any]:
    """Return a short job, `full` or `lora`, that is killed once, in the middle of an accumulation of gradients, and
    commits each completed step.
    """
    kinds: dict[str, dict[str, Any]] = {
        "full": {"fine_tune_type": "full", "lr_schedule": {"name": "cosine_decay", "arguments": [1e-3, 30, 1e-5]}},
        "lora": {
            "fine_tune_type": "lora",
            "num_layers": 4,
            "lora_parameters": {"rank": 8, "dropout": 0.1, "scale": 20.0},
        },
    }
    return {
        "model": str(tiny.model),
        "data": str(tiny.data),
        **_COMMON,
        **kinds[kind],
        "iters": 24,
        "batch_size": 4,
        "grad_accumulation_steps": 2,
        "learning_rate": 1e-3,
        "steps_per_eval": 10,
        "stoker": {
            "name": f"trial-{kind}",
            "python": str(python),
            "checkpoint": {"every": 1},
            "drill": [{"fault": "kill", "at": TRIAL_KILL, "attempts": [1]}],
        },
    }


def write(job: dict[str, Any], path: Path) -> Path:
    """Write a job file."""
    path.write_text(dump(job), encoding="utf-8")
    return path


def stock_run(config: Path, adapter: Path, cache: Path, python: Path | None = None) -> str:
    """Run `python -m mlx_lm lora -c CONFIG` uninterrupted, with nothing of Stoker in it; return the sha256 of its weights.

    Args:
        config: `attempts/1/config.yaml` of the supervised run.
        adapter: where it writes, instead of the configured place; its output goes to a .log beside it.
        cache: TMPDIR with the compiled kernels.
        python: the interpreter; None: this one.

    Raises:
        StokerError: it failed.
    """
    environment = {**os.environ, "TMPDIR": str(cache), "HF_HUB_OFFLINE": "1"}
    argv = [str(python or sys.executable), "-m", "mlx_lm", "lora", "-c", str(config), "--adapter-path", str(adapter)]
    log = adapter.with_suffix(".log")
    with log.open("wb") as output:
        done = subprocess.run(argv, env=environment, stdout=output, stderr=subprocess.STDOUT, check=False)
    if done.returncode != 0:
        raise StokerError(
            f"python -m mlx_lm lora ended with exit status {done.returncode}, with nothing of Stoker in it",
            hint=f"see {log}",
        )
    return sha256_of(adapter / "adapters.safetensors")
