"""The progress of a living attempt, from its heartbeat, metrics and checkpoints."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from stoker.supervisor.files import read_json
from stoker.supervisor.paths import RunPaths

_TAIL = 64 * 1024  # bytes of metrics.jsonl: the newest reports


def live_progress(paths: RunPaths, n: int, attempts: Sequence[Mapping[str, Any]], iters: int | None) -> dict[str, Any]:
    """Return what the trainer says of itself now; None where it has not said it yet.

    `at_risk_iterations` and `at_risk_s` are what would be lost if it died now: the way back to its newest checkpoint.
    """
    from stoker.recovery.checkpoint.choose import candidates, eligible  # only living runs need it

    attempt = paths.attempt(n)
    beat = read_json(attempt.heartbeat) or {}
    report = newest_report(attempt.metrics)
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


def newest_report(path: Path) -> dict[str, Any]:
    """Return the newest train report of a metrics.jsonl; an empty mapping before the first."""
    try:
        with path.open("rb") as file:
            size = file.seek(0, 2)
            file.seek(max(0, size - _TAIL))
            lines = file.read().split(b"\n")
    except OSError:
        return {}
    for line in reversed(lines):
        try:
            row = json.loads(line)
        except ValueError:
            continue
        if isinstance(row, dict) and row.get("kind") == "train":
            return row
    return {}


def _finite(value: Any) -> float | None:
    """Return a number; nan and inf stand as strings in metrics.jsonl and are no JSON."""
    return value if isinstance(value, (int, float)) else None
