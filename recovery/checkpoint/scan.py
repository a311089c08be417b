"""One pass over a safetensors file: its sha256, values that are not finite, tensors that never vary.

Hash and values share each block while it is in the processor's cache, so the pass runs at about the speed of the hash.
numpy is imported inside the functions: the daemon does not need it otherwise.
"""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from io import BufferedReader
from typing import TYPE_CHECKING, Any

from stoker.recovery.checkpoint.safetensors import Tensor

if TYPE_CHECKING:
    import numpy as np

# Read in large pieces, looked at in pieces that fit the second-level cache.
READ_BYTES = 8 << 20
LOOK_BYTES = 1 << 20

# dtype -> (unsigned integer type of the same width, mask of the exponent). All exponent bits set = inf or nan.
EXPONENT = {
    "F16": ("<u2", 0x7C00),
    "BF16": ("<u2", 0x7F80),
    "F32": ("<u4", 0x7F80_0000),
    "C64": ("<u4", 0x7F80_0000),
    "F64": ("<u8", 0x7FF0_0000_0000_0000),
}


@dataclass(slots=True)
class TensorScan:
    """What was seen of one tensor so far.

    Attributes:
        non_finite: how many values are nan or inf (0 for integer types).
        constant: every value so far equals the first one, bit for bit.
        zero: `constant`, and that value is 0.
    """

    tensor: Tensor
    non_finite: int = 0
    constant: bool = True
    zero: bool = True
    first: bytes = b""


@dataclass(slots=True)
class FileScan:
    """The result of a pass; `sha256` is of the whole file, header included."""

    sha256: str
    tensors: list[TensorScan] = field(default_factory=list)


def hash_file(file: BufferedReader) -> str:
    """The sha256 of a file from its first byte."""
    file.seek(0)
    return hashlib.file_digest(file, "sha256").hexdigest()


def scan(file: BufferedReader, tensors: tuple[Tensor, ...]) -> FileScan:
    """Read `file` once from its first byte; `tensors` in file order, contiguous."""
    digest = hashlib.sha256()
    scans = [TensorScan(tensor) for tensor in tensors if tensor.end > tensor.begin]
    block = bytearray(READ_BYTES + 16)
    position = 0  # of the file, at the start of the block
    current = 0  # the first tensor that has bytes at or after `position`
    kept = 0  # bytes of a value cut by the end of the last block, moved to the front
    file.seek(0)
    while True:
        got = file.readinto(memoryview(block)[kept : kept + READ_BYTES])
        if not got:
            break
        digest.update(memoryview(block)[kept : kept + got])
        held = kept + got
        while current < len(scans) and scans[current].tensor.end <= position + held:
            _look(scans[current], block, position, held)
            current += 1
        used = held
        if current < len(scans) and scans[current].tensor.begin < position + held:
            used = _look(scans[current], block, position, held)
        kept = held - used
        block[:kept] = block[used:held]
        position += used
    return FileScan(digest.hexdigest(), scans)


def _look(seen: TensorScan, block: bytearray, position: int, held: int) -> int:
    """Look at the tensor's bytes in block[:held], which starts at `position`; return how many bytes are used up."""
    unit, mask = EXPONENT.get(seen.tensor.dtype, ("<u1", 0))
    width = int(unit[-1])
    start = max(seen.tensor.begin - position, 0)
    stop = min(seen.tensor.end - position, held)
    stop -= (stop - start) % width
    for piece in _pieces(block, start, stop, unit):
        _note(seen, piece, mask)
    return stop


def _pieces(block: bytearray, start: int, stop: int, unit: str) -> Iterator[Any]:
    import numpy as np

    for low in range(start, stop, LOOK_BYTES):
        high = min(low + LOOK_BYTES, stop)
        yield np.frombuffer(block, dtype=np.dtype(unit), count=(high - low) // int(unit[-1]), offset=low)


def _note(seen: TensorScan, piece: "np.ndarray[Any, Any]", mask: int) -> None:
    if mask:
        exponents = piece & piece.dtype.type(mask)
        if exponents.max() == mask:
            seen.non_finite += int((exponents == mask).sum())
    if not seen.constant:
        return
    if not seen.first:
        seen.first = piece[:1].tobytes()
    first = piece.dtype.type(int.from_bytes(seen.first, "little"))
    # The sign bit is left out of the test for zero: -0.0 is zero, too.
    sign = piece.dtype.type((1 << (8 * piece.dtype.itemsize - 1)) - 1 if mask else (1 << 8 * piece.dtype.itemsize) - 1)
    seen.zero = seen.zero and not bool((piece & sign).any())
    seen.constant = seen.zero or bool((piece == first).all())
