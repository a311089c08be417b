"""Dropout masks of a row group: the very ones that its rows would get if the whole batch were computed at once.

mlx's dropout layers ask `mx.random.bernoulli` for a mask of their input's shape. What a mask holds follows from the
generator's key and from the whole shape, so a group can't draw its own rows alone: it draws the mask of the whole
batch and keeps its rows. Each layer's draw takes 5 bytes of memory for an element of its input, of the whole batch,
and frees them again at once (measured); the rows kept take 1 byte for an element, as without splitting.
"""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import mlx.core as mx
from mlx_lm.tuner.lora import LoRASwitchLinear

_ONE_AT_A_TIME = threading.Lock()


@contextmanager
def masks_of_whole(rows: int, whole: int, start: mx.array) -> Iterator[None]:
    """While it lasts, masks drawn by this thread for `rows` rows are those of rows `start` to `start + rows` of a batch
    of `whole` rows; the generator moves on as that batch would move it.

    It belongs around the tracing of a computation: what was traced goes on drawing so. `start` (int32, shape [1]) may
    be a traced array, so that one computation serves all groups of a size.

    Some models flatten rows and tokens into one dimension before a layer: its length is a multiple of the rows, and a
    group's tokens lie together in it. A first dimension that is no multiple of the rows has nothing to do with them:
    such a mask is the same for all rows and is drawn as it is. (In the 77 models of mlx-lm 0.32.2 that were tried the
    first dimension was always the rows, or rows times tokens, or rows times tokens times experts of a token.)
    """
    generator: Any = mx.random
    thread = threading.get_ident()
    with _ONE_AT_A_TIME:
        drawn = generator.bernoulli

        def draw(p: Any = 0.5, shape: Any = None, key: Any = None, **options: Any) -> mx.array:
            first = shape[0] if shape else 0
            if threading.get_ident() != thread or key is not None or not first or first % rows:
                as_asked: mx.array = drawn(p, shape, key, **options)
                return as_asked
            per_row, rest = first // rows, tuple(shape[1:])
            mask: mx.array = drawn(p, (per_row * whole, *rest), **options)
            # Not mx.slice: on Metal it could read a stale start until mlx 0.32.0 (github.com/ml-explore/mlx/issues/3880).
            return mx.take(mask, per_row * start + mx.arange(first), axis=0)

        generator.bernoulli = draw
        try:
            yield
        finally:
            generator.bernoulli = drawn


def experts_drop_out(model: Any) -> bool:
    """Whether dropout is trained in layers of experts, whose masks in a group are not those of the whole batch.

    mlx-lm sorts tokens by expert before such a layer, over all rows of a batch (switch_layers.py), so which element of
    a mask meets which token depends on the rows of the other groups. Every group still gets elements of its own.
    """
    return any(
        isinstance(module, LoRASwitchLinear) and module.dropout._p_1 < 1  # noqa: SLF001 - the layer has no public rate
        for module in model.modules()
    )
