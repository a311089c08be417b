"""The course of the loss, for sparklines: the newest reports from the attempts' metrics.jsonl."""

import json
from pathlib import Path

from stoker.supervisor.paths import RunPaths

_TAIL = 64 * 1024  # bytes at the end of a file; some 250 reports


def losses(run: RunPaths, attempt: int, *, enough: int = 24) -> list[float]:
    """Return the newest train losses, oldest first: those of `attempt`, and of earlier ones up to `enough`."""
    found: list[float] = []
    for n in range(attempt, max(0, attempt - 5), -1):
        found = _losses(run.attempt(n).metrics) + found
        if len(found) >= enough:
            break
    return found


def _losses(path: Path) -> list[float]:
    """The train losses at the end of one file; a line that is torn (still being written) or foreign is left out."""
    values = []
    for line in _tail(path).split(b"\n"):
        if b'"train"' not in line:
            continue
        try:
            report = json.loads(line)
        except ValueError:
            continue
        if (
            isinstance(report, dict)
            and report.get("kind") == "train"
            and isinstance(report.get("train_loss"), float | int)
        ):
            values.append(float(report["train_loss"]))
    return values


def _tail(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            size = file.seek(0, 2)
            file.seek(max(0, size - _TAIL))
            return file.read()
    except OSError:
        return b""
