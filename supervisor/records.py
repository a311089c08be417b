"""`training_runs.jsonl`: one line per ending, with the fields that people's own experiment logs already have."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from stoker.supervisor.clock import iso
from stoker.supervisor.files import append_line

_METHODS = {"full": "full-ft"}


def record(run: Mapping[str, Any], config: Mapping[str, Any], *, hardware: str, ettr: float | None) -> dict[str, Any]:
    """Return the line of an ended run; field names and units are fixed (users' notebooks read them)."""
    started = run["started_at"] or run["created_at"]
    ended = run["ended_at"]
    return {
        "run_id": run["run_id"],
        "model": Path(str(config.get("model") or "")).name,
        "method": _METHODS.get(str(config.get("fine_tune_type")), str(config.get("fine_tune_type") or run["trainer"])),
        "hardware": hardware,
        "config": {
            "batch_size": config.get("batch_size"),
            "lr": config.get("learning_rate"),
            "seq_len": config.get("max_seq_length"),
            "grad_accum": config.get("grad_accumulation_steps"),
        },
        "started_at": iso(started),
        "ended_at": iso(ended),
        "status": run["state"],
        "final_loss": run["loss"],
        "iters_completed": run["iteration"],
        "wall_time_hours": round(max(0.0, ended - started) / 3600, 4),
        "name": run["name"],
        "attempts": run["attempt"],
        "exact": bool(run["exact"]),
        "ettr": ettr,
        "adjustments": json.loads(run["adjustments"]),
        "reason": run["reason"],
    }


def append(paths: list[Path], line: Mapping[str, Any]) -> None:
    """Append the line to each file; a later line of the same run supersedes this one.

    Raises:
        OSError: one of them cannot be written.
    """
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        append_line(path, json.dumps(line, default=str), durable=True)
