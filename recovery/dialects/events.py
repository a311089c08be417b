"""What a log says besides reports: loading, started, saved, done, warnings, and our own trainer's guard lines."""

from dataclasses import dataclass
from typing import Literal

Kind = Literal[
    "load_model",
    "load_data",
    "train",  # mlx-lm says "Training", then the share of trainable parameters
    "trainable",  # value: percent
    "started",  # the loop began; value: iters where the line has them
    "resumed_from",  # weights were loaded from a file
    "progress",  # a progress bar; value: iteration, of: iters
    "saved",
    "final_saved",
    "testing",
    "test",  # value: test loss
    "warning",
    "drill",  # a fault is about to be simulated; text: its name
]
Phase = Literal["start", "model", "data", "train", "test"]
PHASE_AFTER: dict[Kind, Phase] = {
    "load_model": "model",
    "load_data": "data",
    "train": "train",
    "trainable": "train",
    "started": "train",
    "testing": "test",
}


@dataclass(frozen=True, slots=True)
class Event:
    """One thing that the log says happened.

    Attributes:
        line: 1-based line of the log.
        text: a path, a warning, a name; what the kind needs.
        value, of: numbers, see `Kind`.
    """

    kind: Kind
    line: int
    text: str = ""
    value: float | None = None
    of: int | None = None
