"""Looking at one file: its header, its bytes, and whether it fits what it comes from."""

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stoker.recovery.checkpoint import factors, full_tuning, values
from stoker.recovery.checkpoint.findings import Findings
from stoker.recovery.checkpoint.origin import Origin
from stoker.recovery.checkpoint.safetensors import read_layout
from stoker.recovery.checkpoint.scan import hash_file, scan

_FACTOR = re.compile(r"\.lora_[ab](\.\d+)?$")  # numbered where one layer is a fusion of several


@dataclass(frozen=True, slots=True)
class Look:
    """How far to look, where it comes from, and where the findings go.

    Attributes:
        full: whether to read every byte, for the hash and the values.
        finite: whether to look for nan and inf among them.
    """

    full: bool
    finite: bool
    origin: Origin
    found: Findings


def fit(name: str, method: str | None, look: Look) -> None:
    """Do names, shapes and types fit the method of training and the base model?

    mlx-lm loads the wrong kind of file without a word, and trains from the base model.
    """
    tensors, origin, found = look.found.names[name], look.origin, look.found
    method, said = (method, "the manifest") if method else (origin.method, origin.source)
    factored = any(_FACTOR.search(tensor.name) for tensor in tensors)
    if method == "full" and factored:
        found.problems.append(f"{name}: holds LoRA factors, {said} says fine_tune_type full")
    elif method in {"lora", "dora"} and not factored:
        found.problems.append(f"{name}: holds no LoRA factors, {said} says fine_tune_type {method}")
    elif factored:
        factors.compare(name, tensors, method, origin, found)
    elif origin.model is not None:
        full_tuning.compare(name, tensors, origin.model, origin.num_layers, found)


def read_tensors(path: Path, look: Look, *, weights: bool, steps: int = 0) -> None:
    """Read a file; `steps` > 0 says that so many updates have moved its weights."""
    found = look.found
    with path.open("rb") as file:
        layout = read_layout(file, path.stat().st_size)
        found.problems.extend(f"{path.name}: {problem}" for problem in layout.problems)
        if layout.problems:
            if look.full:
                found.sha256[path.name] = hash_file(file)
            return
        found.names[path.name] = layout.tensors
        if not look.full:
            return
        result = scan(file, layout.tensors, finite=look.finite)
    found.sha256[path.name] = result.sha256
    values.finite(path.name, result.tensors, found)
    if weights:
        values.varied(path.name, result.tensors, look.origin.model, found)
        if steps:
            values.untrained(path.name, result.tensors, steps, found)


def read_object(path: Path, found: Findings) -> dict[str, Any] | None:
    """A JSON object; None when the file is absent, or no JSON object (a problem that is noted)."""
    try:
        value = json.loads(path.read_bytes())
    except FileNotFoundError:
        return None
    except (ValueError, RecursionError) as error:
        found.problems.append(f"{path.name}: is not JSON ({error})")
        return None
    if not isinstance(value, dict):
        found.problems.append(f"{path.name}: is not a JSON object")
        return None
    return value
