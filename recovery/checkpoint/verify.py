"""Is this checkpoint whole, unchanged, finite, and what it says it is?

Three kinds of path are understood: a checkpoint folder of a run (with manifest.json), an adapter folder of mlx-lm, and
a single safetensors file. `full=False` reads only names, sizes, headers and the manifest: enough to rule out torn files
in milliseconds. `full=True` also reads every byte once, for the hash and for values that are not finite.
"""

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeGuard

from stoker.recovery.checkpoint.manifest import (
    MANIFEST,
    OPTIMIZER,
    STATE,
    WEIGHTS,
    FileFacts,
    Manifest,
    ManifestError,
    parse_name,
    read,
)
from stoker.recovery.checkpoint.safetensors import Tensor, read_layout
from stoker.recovery.checkpoint.scan import TensorScan, hash_file, scan

Kind = Literal["checkpoint", "adapter", "safetensors"]

ADAPTER = "adapters.safetensors"

# Matrices that may be zero for a good reason: LoRA's second factor and biases start there.
ZERO_IS_FINE = re.compile(r"(^|\.)(lora_b|bias|biases|scales)$|norm", re.IGNORECASE)

# What a resume needs from state.json; `iteration` and `step` are held against the manifest besides.
STATE_KEYS = ("v", "report", "epoch", "numpy", "mlx_key", "start_digest")

# More lines than this of one kind help nobody.
MOST_NAMED = 5


@dataclass(frozen=True, slots=True)
class Verdict:
    """What was found.

    Attributes:
        path: what was looked at.
        ok: true when there is no problem.
        problems: one sentence each, the file named first.
        iteration: of a checkpoint folder or a numbered file; None where nothing says it.
        kind: what the path was taken for.
        sha256: of the weights; None when the file was not read in full or cannot be read.
        notes: things worth knowing that are no problem.
    """

    path: Path
    ok: bool
    problems: tuple[str, ...]
    iteration: int | None
    kind: Kind
    sha256: str | None
    notes: tuple[str, ...] = ()


@dataclass(slots=True)
class _Findings:
    problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    names: dict[str, tuple[Tensor, ...]] = field(default_factory=dict)  # file name -> its tensors
    sha256: dict[str, str] = field(default_factory=dict)  # file name -> hash


def verify(path: Path, *, full: bool = True) -> Verdict:
    """Look at a checkpoint folder, an adapter folder or a safetensors file. Never raises for what is on the disk."""
    kind = kind_of(path)
    found = _Findings()
    looks: dict[Kind, Callable[[Path, _Findings, bool], int | None]] = {
        "checkpoint": _checkpoint,
        "adapter": _adapter,
        "safetensors": _file,
    }
    try:
        iteration = looks[kind](path, found, full)
    except OSError as error:
        iteration = None
        found.problems.append(f"{path.name}: cannot be read ({error.strerror or error})")
    main = {"checkpoint": WEIGHTS, "adapter": ADAPTER, "safetensors": path.name}[kind]
    problems = tuple(found.problems)
    return Verdict(path, not problems, problems, iteration, kind, found.sha256.get(main), tuple(found.notes))


def kind_of(path: Path) -> Kind:
    """What a path is to be taken for: by its manifest, its name, or being a file."""
    if not path.is_dir():
        return "safetensors"
    named = parse_name(path.name) is not None
    return "checkpoint" if named or (path / MANIFEST).exists() or (path / STATE).exists() else "adapter"


# ---- a checkpoint folder -------------------------------------------------------------------------------------------


def _checkpoint(folder: Path, found: _Findings, full: bool) -> int | None:
    named = parse_name(folder.name)
    try:
        manifest = read(folder)
    except (ManifestError, RecursionError, OverflowError) as error:
        # The last two come from JSON that nests too deep or says Infinity where a count belongs.
        text = str(error).removeprefix(f"{folder}/")
        found.problems.append(text if text.startswith(MANIFEST) else f"{MANIFEST}: cannot be read ({text})")
        return named[0] if named else None
    if named and named != (manifest.iteration, manifest.attempt):
        found.problems.append(
            f"{MANIFEST}: says iteration {manifest.iteration} of attempt {manifest.attempt}, "
            f"the folder is named {folder.name}"
        )
    if not manifest.finite:
        found.problems.append(f"{MANIFEST}: the trainer recorded values that are not finite")
    _listed_files(folder, manifest, found, full)
    _state(folder, manifest, found)
    _tensor_totals(manifest, found)
    return manifest.iteration


def _listed_files(folder: Path, manifest: Manifest, found: _Findings, full: bool) -> None:
    for name in (WEIGHTS, OPTIMIZER, STATE):
        if name not in manifest.files:
            found.problems.append(f"{MANIFEST}: does not list {name}")
    for name, facts in sorted(manifest.files.items()):
        if Path(name).name != name:
            found.problems.append(f"{MANIFEST}: lists {name!r}, which is not a file of the folder")
        else:
            _listed_file(folder / name, facts, found, full)


def _listed_file(path: Path, facts: FileFacts, found: _Findings, full: bool) -> None:
    try:
        size = path.stat().st_size
    except FileNotFoundError:
        found.problems.append(f"{path.name}: is missing")
        return
    if size != facts.size:
        found.problems.append(f"{path.name}: has {size} bytes, the manifest says {facts.size}")
    if path.suffix == ".safetensors":
        _safetensors(path, found, full, weights=path.name == WEIGHTS)
    elif full:
        with path.open("rb") as file:
            found.sha256[path.name] = hash_file(file)
    if size == facts.size and found.sha256.get(path.name, facts.sha256) != facts.sha256:
        found.problems.append(f"{path.name}: changed since it was written (its sha256 is not the manifest's)")


def _state(folder: Path, manifest: Manifest, found: _Findings) -> None:
    state = _json(folder / STATE, found)
    if state is None:
        return
    missing = [key for key in STATE_KEYS if key not in state]
    if missing:
        found.problems.append(f"{STATE}: has no {', '.join(missing)}")
    for key, said in (("iteration", manifest.iteration), ("step", manifest.step)):
        if not _is_count(state.get(key)):
            found.problems.append(f"{STATE}: {key} {state.get(key)!r} is not a number")
        elif state[key] != said:
            found.problems.append(f"{STATE}: says {key} {state[key]}, the manifest says {said}")


def _tensor_totals(manifest: Manifest, found: _Findings) -> None:
    tensors = found.names.get(WEIGHTS)
    if tensors is None:
        return
    for key, actual in (("count", len(tensors)), ("params", sum(_elements(tensor) for tensor in tensors))):
        said = manifest.tensors.get(key, actual)
        if said != actual:
            found.problems.append(f"{WEIGHTS}: its tensors have {key} {actual}, the manifest says {said}")


# ---- an adapter folder of mlx-lm, or one file ------------------------------------------------------------------------


def _adapter(folder: Path, found: _Findings, full: bool) -> int | None:
    files = sorted(folder.glob("*.safetensors"))
    if not files:
        found.problems.append(f"{folder.name}: holds neither {MANIFEST} nor a safetensors file")
        return None
    config = _json(folder / "adapter_config.json", found)
    for path in files:
        _safetensors(path, found, full, weights=True)
        if config is not None and path.name in found.names and path.name.endswith(ADAPTER):
            _against_config(path.name, found.names[path.name], config, found)
    return None


def _file(path: Path, found: _Findings, full: bool) -> int | None:
    if not path.exists():
        found.problems.append(f"{path.name}: does not exist")
        return None
    _safetensors(path, found, full, weights="optimizer" not in path.name)
    numbered = re.match(r"^(\d{7,})_adapters\.safetensors$", path.name)
    return int(numbered.group(1)) if numbered else None


def _against_config(name: str, tensors: tuple[Tensor, ...], config: Mapping[str, Any], found: _Findings) -> None:
    """Do the tensors fit adapter_config.json? mlx-lm loads a wrong kind silently and trains from the base model."""
    factors = [tensor for tensor in tensors if tensor.name.endswith((".lora_a", ".lora_b"))]
    method = config.get("fine_tune_type", "lora")
    if method == "full" and factors:
        found.problems.append(f"{name}: holds LoRA factors, adapter_config.json says fine_tune_type full")
    if method in {"lora", "dora"}:
        if not factors:
            found.problems.append(f"{name}: holds no LoRA factors, adapter_config.json says fine_tune_type {method}")
        parameters = config.get("lora_parameters")
        rank = parameters.get("rank") if isinstance(parameters, dict) else None
        wrong = [tensor for tensor in factors if _is_count(rank) and rank not in tensor.shape]
        if wrong:
            shape = list(wrong[0].shape)
            found.problems.append(f"{name}: {wrong[0].name} has shape {shape}, adapter_config.json says rank {rank}")


# ---- one safetensors file --------------------------------------------------------------------------------------------


def _safetensors(path: Path, found: _Findings, full: bool, *, weights: bool) -> None:
    with path.open("rb") as file:
        layout = read_layout(file, path.stat().st_size)
        found.problems.extend(f"{path.name}: {problem}" for problem in layout.problems)
        if layout.problems:
            if full:
                found.sha256[path.name] = hash_file(file)
            return
        found.names[path.name] = layout.tensors
        if not full:
            return
        result = scan(file, layout.tensors)
    found.sha256[path.name] = result.sha256
    _values(path.name, result.tensors, found, weights=weights)


def _values(name: str, scans: list[TensorScan], found: _Findings, *, weights: bool) -> None:
    broken = [seen for seen in scans if seen.non_finite]
    for seen in broken[:MOST_NAMED]:
        elements = _elements(seen.tensor)
        found.problems.append(
            f"{name}: {seen.tensor.name} holds {seen.non_finite} of {elements} values that are nan or inf"
        )
    if len(broken) > MOST_NAMED:
        found.problems.append(f"{name}: {len(broken) - MOST_NAMED} more tensors hold values that are nan or inf")
    if not weights:
        return  # moments of an optimizer are zero wherever no gradient has arrived yet
    matrices = [seen for seen in scans if len(seen.tensor.shape) >= 2 and _elements(seen.tensor) > 1]
    if matrices and all(seen.constant for seen in scans):
        found.problems.append(f"{name}: every tensor is constant: what a failed GPU leaves behind, not trained weights")
        return
    zeros = [seen.tensor.name for seen in matrices if seen.zero]
    unexplained = [tensor for tensor in zeros if not ZERO_IS_FINE.search(tensor)]
    if unexplained:
        more = f" and {len(unexplained) - 1} more" if len(unexplained) > 1 else ""
        found.problems.append(f"{name}: {unexplained[0]}{more}: all values are zero")
    elif zeros:
        found.notes.append(f"{name}: {len(zeros)} matrices are all zero, as they are at the start ({zeros[0]})")


# ---- small things ----------------------------------------------------------------------------------------------------


def _json(path: Path, found: _Findings) -> dict[str, Any] | None:
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


def _is_count(value: Any) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _elements(tensor: Tensor) -> int:
    count = 1
    for side in tensor.shape:
        count *= side
    return count
