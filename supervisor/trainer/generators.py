"""The two random generators that training draws from: numpy's (order of the data) and mlx's (dropout)."""

import base64
from collections.abc import Mapping
from typing import Any

import mlx.core as mx
import numpy as np

NumpyState = tuple[Any, ...]


def numpy_state() -> NumpyState:
    """The state of numpy's global generator, which mlx-lm draws from in training and in validation."""
    return np.random.get_state()  # type: ignore[return-value]  # noqa: NPY002 - mlx-lm draws from the global one


def restore_numpy(state: NumpyState) -> None:
    """Set numpy's global generator."""
    np.random.set_state(state)  # noqa: NPY002 - see above


def encode_numpy(state: NumpyState) -> dict[str, Any]:
    """The state as JSON."""
    name, keys, position, has_gauss, cached = state
    words = base64.b64encode(np.asarray(keys, "<u4").tobytes()).decode()
    return {"generator": name, "keys": words, "position": position, "has_gauss": has_gauss, "cached": cached}


def decode_numpy(document: Mapping[str, Any]) -> NumpyState:
    """The state that `encode_numpy` wrote."""
    keys = np.frombuffer(base64.b64decode(document["keys"]), "<u4").astype(np.uint32)
    return (document["generator"], keys, document["position"], document["has_gauss"], document["cached"])


def mlx_key() -> mx.array:
    """The key of mlx's global generator; an array never changes, so holding it is a copy."""
    state: Any = mx.random.state
    key: mx.array = state[0]
    return key


def key_words(key: mx.array) -> tuple[int, int]:
    """A key as its high and low 32 bits."""
    high, low = (int(word) for word in np.array(key))
    return high, low


def restore_mlx(high: int, low: int) -> None:
    """Set mlx's global generator: a seed becomes a key by being cut into two halves."""
    mx.random.seed((high << 32) | low)
