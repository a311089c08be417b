"""Arrays as bytes that a second thread can write while training goes on.

mlx arrays never change once they are computed: an optimizer step makes new ones. So holding on to the arrays is a
snapshot that costs no copy, and a memoryview lets plain Python write it without a call into mlx (which must not be
used from a second thread while the first one trains).
"""

import json
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import mlx.core as mx
import numpy as np

# What the safetensors format calls them; every type that a trainable parameter or an optimizer's state can have.
_DTYPES = {
    mx.float32: "F32",
    mx.float16: "F16",
    mx.bfloat16: "BF16",
    mx.uint8: "U8",
    mx.uint16: "U16",
    mx.uint32: "U32",
    mx.uint64: "U64",
    mx.int8: "I8",
    mx.int16: "I16",
    mx.int32: "I32",
    mx.int64: "I64",
    mx.bool_: "BOOL",
}
_UNSIGNED = {1: mx.uint8, 2: mx.uint16, 4: mx.uint32, 8: mx.uint64}
_EXPONENT = {"F32": ("<u4", 0x7F800000), "F16": ("<u2", 0x7C00), "BF16": ("<u2", 0x7F80)}
_BLOCK = 1 << 16  # numbers looked at in one go: small enough for the processor's cache
_ALIGNMENT = 8  # bytes; the format asks for it, so that tensors can be mapped
_PIECE = (
    1 << 23
)  # bytes handed over at a time: hashing and writing alternate on data that is still in the processor's cache


@dataclass(frozen=True, slots=True)
class HostTensor:
    """One array as its bytes in memory; `data` keeps the array alive and unchanged."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    data: memoryview


def host_tensors(arrays: Mapping[str, mx.array]) -> tuple[HostTensor, ...]:
    """Views of evaluated arrays. Called on the training thread; what it returns needs no mlx any more."""
    dense = {name: mx.view(mx.contiguous(array), _UNSIGNED[array.itemsize]) for name, array in arrays.items()}
    mx.eval(list(dense.values()))
    return tuple(
        HostTensor(name, _DTYPES[array.dtype], tuple(array.shape), _memory(dense[name]))
        for name, array in arrays.items()
    )


def _memory(array: Any) -> memoryview:
    """The bytes of a dense array where they are; typed Any because mlx's stubs do not tell that arrays are buffers."""
    return memoryview(array).cast("B")


def not_finite(tensors: tuple[HostTensor, ...]) -> list[str]:
    """Names of tensors that hold nan or an infinity: numbers whose exponent bits are all set.

    Ten times faster on a CPU than asking mlx, with no memory of its own, and no mlx call.
    """
    return [tensor.name for tensor in tensors if tensor.dtype in _EXPONENT and not _all_finite(tensor)]


def _all_finite(tensor: HostTensor) -> bool:
    kind, exponent = _EXPONENT[tensor.dtype]
    words = np.frombuffer(tensor.data, kind)
    blocks = (words[start : start + _BLOCK] for start in range(0, words.size, _BLOCK))
    return all(int((block & exponent).max()) != exponent for block in blocks)


def byte_count(tensors: tuple[HostTensor, ...]) -> int:
    """Bytes of all tensors together."""
    return sum(tensor.data.nbytes for tensor in tensors)


def safetensors_header(tensors: tuple[HostTensor, ...]) -> bytes:
    """Length and header of a safetensors file with these tensors in this order."""
    entries: dict[str, object] = {"__metadata__": {"format": "mlx"}}
    offset = 0
    for tensor in tensors:
        end = offset + tensor.data.nbytes
        entries[tensor.name] = {"dtype": tensor.dtype, "shape": tensor.shape, "data_offsets": [offset, end]}
        offset = end
    text = json.dumps(entries, separators=(",", ":")).encode()
    text += b" " * (-len(text) % _ALIGNMENT)
    return struct.pack("<Q", len(text)) + text


def pieces(tensors: tuple[HostTensor, ...]) -> Iterator[memoryview]:
    """The tensors' bytes in order, in pieces of bounded size."""
    for tensor in tensors:
        for start in range(0, tensor.data.nbytes, _PIECE):
            yield tensor.data[start : start + _PIECE]
