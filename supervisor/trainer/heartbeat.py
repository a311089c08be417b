"""The sign of life of the trainer: a small file overwritten in place, cheap enough for every iteration."""

import json
import os
import time
from pathlib import Path

SIZE = 256  # bytes; one write of a fixed size, so that a reader never sees a mixture of lengths


class Heartbeat:
    """Says in which phase the trainer is and which iteration it completed last.

    One pwrite and no fsync: after a crash of the machine the file does not matter.
    """

    def __init__(self, path: Path) -> None:
        self._descriptor = os.open(path, os.O_WRONLY | os.O_CREAT, 0o600)
        self.phase = "load"
        self.iteration = 0
        self.beat("load")

    def beat(self, phase: str, iteration: int | None = None) -> None:
        """Report `phase`, and `iteration` as the last completed one when it has changed."""
        self.phase = phase
        self.iteration = self.iteration if iteration is None else iteration
        row = {"v": 1, "phase": phase, "iteration": self.iteration, "t": time.time(), "pid": os.getpid()}
        os.pwrite(self._descriptor, json.dumps(row).ljust(SIZE - 1).encode() + b"\n", 0)
