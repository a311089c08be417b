"""metrics.jsonl: what happened in the trainer, one JSON object a line. The daemon and the reports read it, never the
log's layout.
"""

import json
import math
import os
import time
from pathlib import Path
from typing import Any


class Metrics:
    """Appends rows; each is one write, so that a row is there whole or not at all whoever else holds the file open."""

    def __init__(self, path: Path) -> None:
        self._descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)

    def write(self, kind: str, **fields: Any) -> None:
        """Append one row; `t` (seconds since the epoch) is added."""
        row = {"kind": kind, "t": time.time(), **fields}
        os.write(self._descriptor, (json.dumps(_plain(row), allow_nan=False) + "\n").encode())


def _plain(value: Any) -> Any:
    """The value with numbers that JSON lacks as the strings "nan", "inf", "-inf"."""
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value
