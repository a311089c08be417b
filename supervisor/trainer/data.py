"""The stock batch iterator, with a position that can be saved and a way to come back to it.

mlx-lm draws each epoch's order from numpy's global generator and keeps no position. The order of the current epoch
follows from the generator's state at the epoch's start, so that state and the number of batches drawn since are all
that has to be remembered.
"""

from collections.abc import Callable, Iterator
from typing import Any

import mlx.core as mx
import numpy as np
from mlx_lm.tuner.datasets import CacheDataset

from stoker.supervisor.trainer.generators import NumpyState, numpy_state, restore_numpy

_NOTHING = ([0], 0)  # stands for an example while batches are skipped: one token, offset 0


class TrackedDataset(CacheDataset):  # type: ignore[misc]  # mlx-lm ships no types
    """mlx-lm's dataset that tokenizes on first access; it also knows which examples the last batch was made of.

    It stays a CacheDataset because the stock iterator sorts those by another length than other datasets.
    """

    def __init__(self, stock: Any) -> None:
        super().__init__(stock._data)  # noqa: SLF001 - the stock class has no other way to be copied
        self.skipping = False
        self.recent: list[int] = []

    def __getitem__(self, index: int) -> Any:
        if self.skipping:
            return _NOTHING
        self.recent.append(index)
        return super().__getitem__(index)


class BatchStream:
    """Endless batches in exactly the order of the stock iterator."""

    def __init__(
        self, dataset: TrackedDataset, batch_size: int, make: Callable[..., Iterator[Any]], **options: Any
    ) -> None:
        self._dataset = dataset
        self._batches = make(dataset=dataset, batch_size=batch_size, loop=True, **options)
        self.per_epoch = len(dataset) // batch_size
        self.position = self.per_epoch  # as if an epoch had just ended: the first batch starts one
        self.epoch_start: NumpyState = numpy_state()
        self.examples: list[int] = []

    def __iter__(self) -> Iterator[tuple[mx.array, mx.array]]:
        return self

    def __next__(self) -> tuple[mx.array, mx.array]:
        if self.position >= self.per_epoch:
            self.epoch_start, self.position = numpy_state(), 0
        self._dataset.recent.clear()
        batch: tuple[mx.array, mx.array] = next(self._batches)
        self.examples = list(self._dataset.recent)
        self.position += 1
        return batch

    def seek(self, epoch_start: NumpyState, position: int, now: NumpyState) -> None:
        """Go to `position` of the epoch that began with `epoch_start`; nothing is tokenized on the way."""
        restore_numpy(epoch_start)
        self.epoch_start, self.position = epoch_start, min(position, self.per_epoch)
        self._dataset.skipping = True
        for _ in range(self.position):
            next(self._batches)
        self._dataset.skipping = False
        restore_numpy(now)


def target_counts(lengths: mx.array, width: int) -> "np.ndarray[Any, np.dtype[np.int64]]":
    """Target tokens in each row of a batch that is `width` tokens wide, as mlx-lm's default loss masks them.

    A row's pair in `lengths` is (offset, length); targets are counted from 1 and those from offset to length count.
    """
    pairs = np.array(lengths).astype(np.int64)
    first = np.maximum(pairs[:, 0], 1)
    last = np.minimum(pairs[:, 1], width - 1)
    counts: np.ndarray[Any, np.dtype[np.int64]] = np.maximum(last - first + 1, 0)
    return counts
