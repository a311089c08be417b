"""A drawn batch in row groups: less memory at the same batch size, order of data, schedule and random draws.

The gradient of a batch is the mean over its target tokens, so the groups' gradients are weighted by their share of
them; the sum is the unsplit gradient up to the rounding of another order of addition. Dropout masks are those of the
whole batch (masks.py), but in layers of experts.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import mlx.core as mx

from stoker.supervisor.trainer.data import target_counts
from stoker.supervisor.trainer.scalars import count

Loss = Callable[..., tuple[mx.array, mx.array]]


@dataclass(frozen=True, slots=True)
class Group:
    """Some rows of a batch, the number of the first of them, and their share of the batch's target tokens."""

    start: int
    rows: mx.array
    lengths: mx.array
    tokens: int
    share: float


def groups(batch: mx.array, lengths: mx.array, size: int) -> Iterator[Group]:
    """Cut a batch into groups of at most `size` rows; groups without a target token contribute nothing and are left
    out.
    """
    counts = target_counts(lengths, batch.shape[1])
    total = int(counts.sum())
    for start in range(0, batch.shape[0], size):
        tokens = int(counts[start : start + size].sum())
        if tokens:
            part = slice(start, start + size)
            yield Group(start, batch[part], lengths[part], tokens, tokens / total)


def check_count(group: Group, counted: mx.array) -> None:
    """The shares rest on our own count of target tokens: it must be the one of mlx-lm's loss."""
    if count(counted) != group.tokens:
        raise RuntimeError(
            f"micro_batch: this mlx-lm counts {count(counted)} target tokens where {group.tokens} were expected; "
            "its loss masks otherwise than the reviewed versions. Train without micro_batch"
        )


def split_loss(loss: Loss, size: int) -> Loss:
    """The loss of a whole batch, computed group by group with the memory of one group; for validation, where no
    gradient is taken.
    """

    def by_groups(model: Any, batch: mx.array, lengths: mx.array) -> tuple[mx.array, mx.array]:
        if batch.shape[0] <= size:
            return loss(model, batch, lengths)
        value, tokens = mx.array(0.0), mx.array(0)
        found = False
        for group in groups(batch, lengths, size):
            part, counted = loss(model, group.rows, group.lengths)
            value, tokens = value + part * group.share, tokens + counted
            mx.eval(value, tokens)
            check_count(group, counted)
            found = True
        return (value, tokens) if found else loss(model, batch, lengths)

    return by_groups
