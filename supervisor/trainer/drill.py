"""Injected faults: real events at a chosen iteration, to show and to test that recovery works."""

import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mlx.core as mx
from mlx.utils import tree_flatten, tree_unflatten

from stoker.recovery.checkpoint.manifest import MANIFEST, WEIGHTS, parse_name
from stoker.supervisor.trainer.launch import Injection

_OUT_OF_MEMORY = (
    "[METAL] Command buffer execution failed: Insufficient Memory "
    "(00000008:kIOGPUCommandBufferCallbackErrorOutOfMemory)."
)
_MORE_THAN_ANY_MACHINE_HAS = (1 << 16, 1 << 15, 1 << 15)  # 64 TiB of bytes


class Drill:
    """The faults that are to happen in this attempt."""

    def __init__(self, injections: tuple[Injection, ...], checkpoints: Path, settle: Callable[[], None]) -> None:
        self._injections = injections
        self._checkpoints = checkpoints
        self._settle = (
            settle  # waits for the checkpoint that is being written, so that a drill always finds the same one
        )

    def before_step(self, iteration: int, rows: int, model: Any) -> None:
        """Faults that must be there when the step is computed."""
        for row in self._injections:
            if row.fault == "oom" and rows > (row.above or 0) and iteration >= (row.at or 0):
                _run_out_of_memory()
            if row.fault == "nan" and iteration == row.at:
                _poison(model)

    def after_iteration(self, iteration: int) -> None:
        """Faults that end the process, or its progress, between two iterations."""
        for row in self._injections:
            if row.at != iteration:
                continue
            if row.fault == "truncate":
                self._settle()
                _truncate_newest(self._checkpoints)
            if row.fault in {"kill", "truncate"}:
                self._settle()
                _say(f"{row.fault} at iteration {iteration}")
                os.kill(os.getpid(), signal.SIGKILL)
            if row.fault == "hang":
                _say(f"hang at iteration {iteration}")
                while True:  # no signal but SIGKILL ends this: a hang in a driver doesn't look at flags either
                    time.sleep(3600)


def _say(text: str) -> None:
    print(f"stoker: drill: {text}", file=sys.stderr, flush=True)


def _run_out_of_memory() -> None:
    """Ask the backend for more than there is; the CPU backend would crash without a word, so there the error is
    spoken for it.
    """
    if mx.default_device().type == mx.DeviceType.gpu:
        _say("oom by a real allocation that cannot succeed")
        mx.eval(mx.zeros(_MORE_THAN_ANY_MACHINE_HAS, dtype=mx.uint8))
    _say("oom is simulated on this backend")
    raise RuntimeError(_OUT_OF_MEMORY)


def _poison(model: Any) -> None:
    """A NaN into one element of a trainable parameter inside a block, where each token passes."""
    named: dict[str, mx.array] = dict(tree_flatten(model.trainable_parameters()))
    name = next((name for name in named if ".layers." in name), next(iter(named)))
    value = named[name]
    first = mx.arange(value.size).reshape(value.shape) == 0
    model.update(tree_unflatten([(name, mx.where(first, mx.array(float("nan"), value.dtype), value))]))
    _say(f"nan put into {name}")


def _truncate_newest(checkpoints: Path) -> None:
    committed = [path for path in checkpoints.iterdir() if parse_name(path.name) and (path / MANIFEST).exists()]
    if not committed:
        _say("no checkpoint to truncate yet")
        return
    weights = max(committed, key=lambda path: parse_name(path.name) or (0, 0)) / WEIGHTS
    os.truncate(weights, weights.stat().st_size // 2)
    _say(f"{weights} cut to half of its size")
