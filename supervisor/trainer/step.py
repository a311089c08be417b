"""One iteration's computation: mlx-lm's compiled step, or the same in row groups."""

from collections.abc import Callable
from typing import Any

import mlx.core as mx
from mlx import nn
from mlx.nn.utils import average_gradients
from mlx.utils import tree_map

from stoker.supervisor.trainer.generators import key_words, mlx_key, restore_mlx
from stoker.supervisor.trainer.split import Loss, check_count, groups

Result = tuple[mx.array, mx.array, Any]


class Step:
    """Computes loss, token count and gradient of a batch, and updates the model where an accumulation ends."""

    def __init__(
        self,
        model: Any,
        optimizer: Any,
        loss: Loss,
        accumulation: int,
        micro_batch: int | None,
        compiling: Callable[[], None],
    ) -> None:
        self._model, self._optimizer, self._accumulation = model, optimizer, accumulation
        self._micro_batch = micro_batch
        self._compiling = compiling
        self._seen: set[tuple[Any, ...]] = set()
        self._updated = False
        # As in mlx-lm: everything that the step reads and replaces. Built after the optimizer was restored, if it was.
        self.state = [model.state, optimizer.state, mx.random.state]
        self._gradient = nn.value_and_grad(model, loss)
        self._weighted = nn.value_and_grad(model, lambda *args: _weigh(loss, *args))
        self._whole = mx.compile(self._trace_whole, inputs=self.state, outputs=self.state)
        self._group = mx.compile(self._trace_group, inputs=self.state, outputs=self.state)
        self._update = mx.compile(self._trace_update, inputs=self.state, outputs=self.state)

    def rows(self, batch: mx.array) -> int:
        """Rows in one forward pass over this batch."""
        return min(batch.shape[0], self._micro_batch or batch.shape[0])

    def __call__(self, batch: tuple[mx.array, mx.array], previous: Any, update: bool) -> Result:
        """The step on one drawn batch; `previous` is the gradient accumulated so far, the returned one is None after
        an update.
        """
        split = self._micro_batch is not None and batch[0].shape[0] > self._micro_batch
        result = self._by_groups(batch, previous, update) if split else self._at_once(batch, previous, update)
        self._updated = self._updated or update
        return result

    def _at_once(self, batch: tuple[mx.array, mx.array], previous: Any, update: bool) -> Result:
        self._announce("whole", batch[0].shape, previous is None, update)
        result: Result = self._whole(batch, previous, update)
        return result

    def _trace_whole(self, batch: tuple[mx.array, mx.array], previous: Any, update: bool) -> Result:
        (value, tokens), gradient = self._gradient(self._model, *batch)
        if previous is not None:
            gradient = tree_map(lambda x, y: x + y, gradient, previous)
        if update:
            self._trace_update(gradient)
            gradient = None
        return value, tokens, gradient

    def _trace_update(self, gradient: Any) -> None:
        gradient = average_gradients(gradient)
        if self._accumulation > 1:
            gradient = tree_map(lambda x: x / self._accumulation, gradient)
        self._optimizer.update(self._model, gradient)

    def _by_groups(self, batch: tuple[mx.array, mx.array], previous: Any, update: bool) -> Result:
        """Evaluates between the groups: only then is the memory of a group free before the next one."""
        before, after = mlx_key(), None
        total, value, tokens = previous, mx.array(0.0), mx.array(0)
        for index, group in enumerate(groups(*batch, self._micro_batch or 1)):
            if index:
                restore_mlx(
                    *key_words(mx.random.split(before, index + 1)[index])
                )  # other dropout masks than the group before
            self._announce("group", group.rows.shape, total is None, False)
            part, counted, total = self._group(group.rows, group.lengths, mx.array(group.share), total)
            value, tokens = value + part, tokens + counted
            mx.eval(total, value, tokens, mx.random.state)
            check_count(group, counted)
            after = mlx_key() if after is None else after
        if after is None:  # no target tokens at all: let the whole batch show it
            return self._at_once(batch, previous, update)
        restore_mlx(*key_words(after))  # as far as one pass over the whole batch would have moved it
        if update:
            self._announce("update", (), False, True)
            self._update(total)
            total = None
        return value, tokens, total

    def _trace_group(self, rows: mx.array, lengths: mx.array, share: mx.array, total: Any) -> Result:
        (value, tokens), gradient = self._weighted(self._model, rows, lengths, share)
        if total is not None:
            gradient = tree_map(lambda x, y: x + y, gradient, total)
        return value, tokens, gradient

    def _announce(self, *signature: Any) -> None:
        """Say so before a computation that will be traced and compiled, which can take minutes."""
        key = (*signature, self._updated)
        if key not in self._seen:
            self._seen.add(key)
            self._compiling()


def _weigh(loss: Loss, model: Any, rows: mx.array, lengths: mx.array, share: mx.array) -> tuple[mx.array, mx.array]:
    """The share enters through the loss, in float32: gradients of 16 bits would lose part of it."""
    value, tokens = loss(model, rows, lengths)
    return value * share, tokens
