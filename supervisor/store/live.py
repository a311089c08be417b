"""The progress of a living attempt, from its heartbeat, metrics and checkpoints."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from stoker.supervisor.files import read_json
from stoker.supervisor.paths import RunPaths

_CADENCE = (
    "bytes",
    "stall_s",
    "cost_s",
    "next_s",
    "because",
)  # of checkpoints: what they cost and when the next is due
_TAIL = 64 * 1024  # bytes of metrics.jsonl: the newest reports, or the first


def live_progress(paths: RunPaths, n: int, attempts: Sequence[Mapping[str, Any]], iters: int | None) -> dict[str, Any]:
    """Return what the trainer says of itself now; None where it has not said it yet.

    `at_risk_iterations` and `at_risk_s` are what would be lost if it died now: the way back to its newest checkpoint.
    """
    from stoker.recovery.checkpoint.choose import candidates, eligible  # only living runs need it

    attempt = paths.attempt(n)
    beat = read_json(attempt.heartbeat) or {}
    report = newest_row(attempt.metrics, "train")
    cadence = newest_row(attempt.metrics, "cadence")
    speed = report.get("iterations_per_second")
    began = next((row["from_iteration"] for row in attempts if row["n"] == n), 0)
    iteration = max(began, int(beat.get("iteration") or 0)) if beat else began or None
    progress: dict[str, Any] = {
        "iteration": iteration,
        "phase": beat.get("phase"),
        "loss": _finite(report.get("train_loss")),
        "tokens_per_second": report.get("tokens_per_second"),
        "peak_memory": report.get("peak_memory"),
        "micro_batch": report.get("micro_batch"),
        "cadence": {key: cadence.get(key) for key in _CADENCE} if cadence else None,
    }
    if iteration is None:
        return progress
    starts = {row["n"]: row["from_iteration"] for row in attempts}
    newest = next((c for c in candidates(paths.checkpoints) if eligible(c, starts)), None)
    progress["last_checkpoint"] = newest.name if newest else None
    progress["at_risk_iterations"] = max(0, iteration - (newest.iteration if newest else 0))
    if isinstance(speed, (int, float)) and speed > 0:
        progress["at_risk_s"] = round(progress["at_risk_iterations"] / speed, 1)
        if iters is not None:
            progress["eta_s"] = round(max(0, iters - iteration) / speed, 1)
    return progress


def newest_row(path: Path, kind: str) -> dict[str, Any]:
    """Return the newest row of a kind near the end of a metrics.jsonl; an empty mapping when there is none."""
    try:
        with path.open("rb") as file:
            size = file.seek(0, 2)
            file.seek(max(0, size - _TAIL))
            lines = file.read().split(b"\n")
    except OSError:
        return {}
    for line in reversed(lines):
        row = _row(line)
        if isinstance(row, dict) and row.get("kind") == kind:
            return row
    return {}


def start_report(path: Path) -> dict[str, Any]:
    """Return what the trainer said of itself when it began (label, device, versions); an empty mapping before that."""
    try:
        with path.open("rb") as file:
            lines = file.read(_TAIL).split(b"\n")
    except OSError:
        return {}
    rows = (row for line in lines if isinstance(row := _row(line), dict))
    return next((row for row in rows if row.get("kind") == "start"), {})


def _row(line: bytes) -> Any:
    try:
        return json.loads(line)
    except ValueError:
        return None


def _finite(value: Any) -> float | None:
    """Return a number; nan and inf stand as strings in metrics.jsonl and are no JSON."""
    return value if isinstance(value, (int, float)) else None
