"""Numbers out of arrays that hold one."""

from typing import Any

import mlx.core as mx


def number(value: Any) -> float:
    """The one element of an array, or a plain number, as a float."""
    plain: Any = value.item() if isinstance(value, mx.array) else value
    return float(plain)


def count(value: Any) -> int:
    """The one element of an array, or a plain number, as an int."""
    plain: Any = value.item() if isinstance(value, mx.array) else value
    return int(plain)
