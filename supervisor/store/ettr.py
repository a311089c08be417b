"""ETTR: productive, kept training time ÷ wall time."""

from collections.abc import Mapping, Sequence
from typing import Any


def ettr(run: Mapping[str, Any], attempts: Sequence[Mapping[str, Any]], now: float) -> float | None:
    """Return the share of the run's wall time whose iterations were kept; None before the first report.

    An attempt's training time counts by the part of its iterations that no later attempt repeated.
    """
    started = run["started_at"]
    if started is None or not attempts:
        return None
    kept = 0.0
    for attempt in attempts:
        done = (attempt["to_iteration"] or 0) - attempt["from_iteration"]
        lost = attempt["lost_iterations"] or 0
        if done > 0 and attempt["train_s"]:
            kept += attempt["train_s"] * max(0, done - lost) / done
    wall = (run["ended_at"] or now) - started
    return round(min(1.0, kept / wall), 4) if wall > 0 and kept else None
