"""The two jobs of the demonstration, and the stock run that the second is held against."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from stoker.profiles.yaml_scalars import dump
from stoker.supervisor.demo.tiny import Tiny

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


def write(job: dict[str, Any], path: Path) -> Path:
    """Write a job file."""
    path.write_text(dump(job), encoding="utf-8")
    return path


def stock_run(config: Path, adapter: Path, cache: Path, log: Path) -> int:
    """Run `python -m mlx_lm lora -c CONFIG` uninterrupted, with nothing of Stoker in it; return its exit status.

    Args:
        config: `attempts/1/config.yaml` of the supervised run.
        adapter: where it writes, instead of the configured place.
        cache: TMPDIR with the compiled kernels.
        log: its output.
    """
    environment = {**os.environ, "TMPDIR": str(cache), "HF_HUB_OFFLINE": "1"}
    argv = [sys.executable, "-m", "mlx_lm", "lora", "-c", str(config), "--adapter-path", str(adapter)]
    with log.open("wb") as output:
        return subprocess.run(argv, env=environment, stdout=output, stderr=subprocess.STDOUT, check=False).returncode
