"""A checkpoint folder of a run: its manifest, the files that it lists, its state, and that they belong together."""

from pathlib import Path
from typing import Any, TypeGuard

from stoker.recovery.checkpoint import moments
from stoker.recovery.checkpoint.findings import Findings
from stoker.recovery.checkpoint.look import Look, fit, read_object, read_tensors
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
from stoker.recovery.checkpoint.scan import hash_file

# What a resume needs from state.json; `iteration` and `step` are held against the manifest besides.
STATE_KEYS = ("v", "report", "epoch", "numpy", "mlx_key", "start_digest")


def examine(folder: Path, look: Look) -> int | None:
    """Look at a checkpoint; returns its iteration, where anything tells it."""
    named, found = parse_name(folder.name), look.found
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
    _listed_files(folder, manifest, look)
    _state(folder, manifest, found)
    _tensor_totals(manifest, found)
    if WEIGHTS in found.names:
        fit(WEIGHTS, manifest.fine_tune_type, look)
        moments.compare(OPTIMIZER, found.names.get(OPTIMIZER, ()), found.names[WEIGHTS], found)
    return manifest.iteration


def _listed_files(folder: Path, manifest: Manifest, look: Look) -> None:
    for name in (WEIGHTS, OPTIMIZER, STATE):
        if name not in manifest.files:
            look.found.problems.append(f"{MANIFEST}: does not list {name}")
    steps = manifest.step if look.origin.learns(manifest.step) else 0
    for name, facts in sorted(manifest.files.items()):
        if Path(name).name != name:
            look.found.problems.append(f"{MANIFEST}: lists {name!r}, which is not a file of the folder")
        else:
            _listed_file(folder / name, facts, look, steps)


def _listed_file(path: Path, facts: FileFacts, look: Look, steps: int) -> None:
    found = look.found
    try:
        size = path.stat().st_size
    except FileNotFoundError:
        found.problems.append(f"{path.name}: is missing")
        return
    if size != facts.size:
        found.problems.append(f"{path.name}: has {size} bytes, the manifest says {facts.size}")
    if path.suffix == ".safetensors":
        read_tensors(path, look, weights=path.name == WEIGHTS, steps=steps)
    elif look.full:
        with path.open("rb") as file:
            found.sha256[path.name] = hash_file(file)
    if size == facts.size and found.sha256.get(path.name, facts.sha256) != facts.sha256:
        found.problems.append(f"{path.name}: changed since it was written (its sha256 is not the manifest's)")


def _state(folder: Path, manifest: Manifest, found: Findings) -> None:
    state = read_object(folder / STATE, found)
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


def _tensor_totals(manifest: Manifest, found: Findings) -> None:
    tensors = found.names.get(WEIGHTS)
    if tensors is None:
        return
    for key, actual in (("count", len(tensors)), ("params", sum(tensor.elements for tensor in tensors))):
        said = manifest.tensors.get(key, actual)
        if said != actual:
            found.problems.append(f"{WEIGHTS}: its tensors have {key} {actual}, the manifest says {said}")


def _is_count(value: Any) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0
