"""A multiplier on the learning-rate schedule that mlx-lm built from the config."""

from collections.abc import Callable
from typing import Any

import mlx.core as mx

from stoker.supervisor.trainer.launch import Factor

Schedule = Callable[[mx.array], mx.array]


def multiplier(factors: tuple[Factor, ...], step: mx.array) -> mx.array:
    """The product of all factors that are in effect at an optimizer step, as an array so that it can be compiled.

    A factor rises linearly from factor / (ramp_steps + 1) at its first step to its full value after `ramp_steps`
    steps: the rate never exceeds the reduced one, also not in the steps in which the trouble came before.
    """
    product = mx.array(1.0)
    for row in factors:
        progress = (step.astype(mx.float32) - row.from_step + 1) / (row.ramp_steps + 1)
        product = product * mx.where(step >= row.from_step, row.factor * mx.minimum(progress, 1.0), 1.0)
    return product


def slow_down(optimizer: Any, factors: tuple[Factor, ...]) -> None:
    """Put the multiplier on the optimizer's schedule; an optimizer without factors is left exactly as it is.

    Called before a checkpoint's state is loaded: a constant rate must be the config's, not the multiplied one that was
    in effect.
    """
    if not factors:
        return
    schedulers: dict[str, Schedule] = optimizer._schedulers  # noqa: SLF001 - mlx has no public way
    constant: mx.array = optimizer.learning_rate
    base: Schedule = schedulers.get("learning_rate", lambda _step: constant)
    schedulers["learning_rate"] = lambda step: base(step) * multiplier(factors, step)
    optimizer.learning_rate = schedulers["learning_rate"](optimizer.step)
