"""The base model of a training, as its headers describe it: names, shapes and types of its tensors. Standard library only.

Only headers are read: milliseconds for any size, sharded or not.
"""

import hashlib
import json
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stoker.recovery.checkpoint.safetensors import Tensor, read_layout

_PATTERNS = ("model*.safetensors", "weight*.safetensors")  # what mlx-lm loads: the second one before 0.24
_INDEX = "model.safetensors.index.json"
_WORD = 32  # bits; mlx packs quantized values into words


class ModelError(ValueError):
    """A model folder that cannot serve as a reference; the text says why."""


@dataclass(frozen=True, slots=True)
class Stored:
    """A tensor of the model and the file that holds it."""

    file: Path
    tensor: Tensor


@dataclass(frozen=True, slots=True)
class Model:
    """The headers of a model.

    Attributes:
        folder: where it is.
        tensors: by name.
        native: written by mlx: names, shapes and types are those of the loaded model. Of other files mlx-lm's loader may
            rename, stack, transpose or convert some kinds of tensors.
        quantization: from config.json: bits and group size, and exceptions by the module's name; empty when it has none.
    """

    folder: Path
    tensors: Mapping[str, Stored]
    native: bool
    quantization: Mapping[str, Any]

    def packed(self, name: str) -> bool:
        """Whether a tensor is part of a quantized layer."""
        return f"{name.rpartition('.')[0]}.scales" in self.tensors

    def columns(self, module: str) -> int | None:
        """Length of the rows of `MODULE.weight` once it is unpacked; None when the files do not tell."""
        weight = self.tensors[f"{module}.weight"].tensor
        if not self.packed(f"{module}.weight"):
            return weight.shape[-1]
        scales = self.tensors[f"{module}.scales"].tensor
        own = self.quantization.get(module)
        setting = {**self.quantization, **own} if isinstance(own, dict) else self.quantization
        bits, group = setting.get("bits"), setting.get("group_size")
        if not isinstance(bits, int) or not isinstance(group, int) or bits <= 0:
            return None
        columns, rest = divmod(weight.shape[-1] * _WORD, bits)
        # mlx-lm infers the bits of layers that config.json does not name; then these two do not agree.
        return columns if rest == 0 and columns == scales.shape[-1] * group else None


def read_model(folder: Path) -> Model:
    """Read the headers of a model folder.

    Raises:
        ModelError: there is none, or a file of it is missing or damaged.
        OSError: it cannot be read.
    """
    found = [files for pattern in _PATTERNS if (files := sorted(folder.glob(pattern)))]
    if not found:
        raise ModelError(f"{folder} holds no model*.safetensors")
    missing = sorted(_listed(folder) - {path.name for path in found[0]})
    if missing:
        raise ModelError(f"{folder / missing[0]} is missing")
    tensors: dict[str, Stored] = {}
    formats = set()
    for path in found[0]:
        with path.open("rb") as file:
            layout = read_layout(file, path.stat().st_size)
        if layout.problems:
            raise ModelError(f"{path}: {layout.problems[0]}")
        tensors |= {tensor.name: Stored(path, tensor) for tensor in layout.tensors}
        formats.add(layout.metadata.get("format"))
    config = _object(folder / "config.json")
    quantization = config.get("quantization") or config.get("quantization_config")
    return Model(folder, tensors, formats == {"mlx"}, quantization if isinstance(quantization, dict) else {})


def model_fingerprint(folder: Path) -> str:
    """sha256 over config.json and, for each weights file, its header and size: seconds for any model, and blind only
    to edited values.
    """
    digest = hashlib.sha256((folder / "config.json").read_bytes())
    for path in sorted(folder.glob("*.safetensors")):
        with path.open("rb") as file:
            prefix = file.read(8)
            length = struct.unpack("<Q", prefix)[0] if len(prefix) == len(struct.pack("<Q", 0)) else 0
            digest.update(f"{path.name} {path.stat().st_size} ".encode() + prefix + file.read(min(length, 1 << 28)))
    return digest.hexdigest()


def _listed(folder: Path) -> set[str]:
    """The files that the index of a sharded model names."""
    shards = _object(folder / _INDEX).get("weight_map")
    return {str(name) for name in shards.values()} if isinstance(shards, dict) else set()


def _object(path: Path) -> dict[str, Any]:
    """A JSON object; an empty one when the file is absent or holds something else."""
    try:
        value = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}
