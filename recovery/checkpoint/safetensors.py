"""The layout of a safetensors file, read from its first bytes only.

A file is an 8-byte little-endian length, a JSON header of that length, then the tensors' bytes. A torn write shows in
the header or in the size: the offsets must cover the rest of the file, without a gap and without an overlap.
"""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, BinaryIO

# Bytes per element. mlx writes the upper part; the rest may come from other tools.
DTYPE_BYTES = {
    "BOOL": 1, "U8": 1, "I8": 1, "U16": 2, "I16": 2, "U32": 4, "I32": 4, "U64": 8, "I64": 8,
    "F16": 2, "BF16": 2, "F32": 4, "F64": 8, "C64": 8,
    "F8_E4M3": 1, "F8_E5M2": 1, "F8_E8M0": 1,
}  # fmt: skip

FLOATS = frozenset({"F16", "BF16", "F32", "F64"})  # what a trained parameter may be

# The format's own limit; a larger number is garbage read as a length.
MAX_HEADER_BYTES = 100_000_000


@dataclass(frozen=True, slots=True)
class Tensor:
    """One entry of the header; `begin` and `end` are offsets in the file, in bytes."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    begin: int
    end: int

    @property
    def elements(self) -> int:
        """Number of values."""
        return math.prod(self.shape)


@dataclass(frozen=True, slots=True)
class Layout:
    """What the header says: the tensors in file order, everything that contradicts the file, and free words of the
    writer (mlx says format: mlx).
    """

    tensors: tuple[Tensor, ...]
    problems: tuple[str, ...]
    metadata: Mapping[str, Any] = field(default_factory=dict)


def read_layout(file: BinaryIO, size: int) -> Layout:
    """Read the header from the start of `file`; `size` is the file's size in bytes."""
    head = file.read(8)
    if len(head) < 8:
        return _bad(f"the file is {size} bytes long: too short for a safetensors header")
    length = int.from_bytes(head, "little")
    if length > MAX_HEADER_BYTES or 8 + length > size:
        return _bad(
            f"the header says it is {length} bytes long, but the file has {size} bytes: truncated or not safetensors"
        )
    try:
        header = json.loads(file.read(length).decode("utf-8"))
    except (ValueError, RecursionError) as error:
        return _bad(f"the header is not JSON ({error})")
    if not isinstance(header, dict):
        return _bad("the header is not a JSON object")
    return _layout(header, start=8 + length, size=size)


def _bad(problem: str) -> Layout:
    return Layout((), (problem,))


def _layout(header: dict[str, Any], *, start: int, size: int) -> Layout:
    tensors: list[Tensor] = []
    problems: list[str] = []
    for name, entry in header.items():
        if name == "__metadata__":
            continue
        found = _tensor(name, entry, start)
        if isinstance(found, str):
            problems.append(found)
        else:
            tensors.append(found)
    tensors.sort(key=lambda tensor: (tensor.begin, tensor.end))
    if not tensors and not problems:
        problems.append("the file holds no tensors")
    if not problems:
        problems.extend(_gaps(tensors, start, size))
    metadata = header.get("__metadata__")
    return Layout(tuple(tensors), tuple(problems), metadata if isinstance(metadata, dict) else {})


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _tensor(name: str, entry: Any, start: int) -> Tensor | str:
    """One header entry as a Tensor, or the sentence that says why it is none."""
    if not isinstance(entry, dict):
        return f"tensor {name!r}: its header entry is not an object"
    dtype, shape, offsets = entry.get("dtype"), entry.get("shape"), entry.get("data_offsets")
    if not isinstance(dtype, str) or dtype not in DTYPE_BYTES:
        return f"tensor {name!r}: unknown dtype {dtype!r}"
    if not isinstance(shape, list) or not all(_is_count(side) for side in shape):
        return f"tensor {name!r}: shape {shape!r} is not a list of sizes"
    if not isinstance(offsets, list) or len(offsets) != 2 or not all(_is_count(offset) for offset in offsets):
        return f"tensor {name!r}: data_offsets {offsets!r} is not a pair of positions"
    begin, end = offsets
    expected = math.prod(shape) * DTYPE_BYTES[dtype]
    if end - begin != expected:
        return f"tensor {name!r}: {dtype} {shape} needs {expected} bytes, its offsets give {end - begin}"
    return Tensor(name, dtype, tuple(shape), start + begin, start + end)


def _gaps(tensors: list[Tensor], start: int, size: int) -> list[str]:
    position = start
    for tensor in tensors:
        if tensor.begin != position:
            kind = "overlaps the tensor before it" if tensor.begin < position else "leaves a gap before it"
            return [f"tensor {tensor.name!r} {kind} (starts at byte {tensor.begin}, expected {position})"]
        position = tensor.end
    if position > size:
        return [f"the tensors end at byte {position}, but the file has {size} bytes: truncated"]
    if position < size:
        return [f"the file has {size - position} bytes after its last tensor"]
    return []
