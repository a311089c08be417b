"""Is this checkpoint whole, unchanged, finite, and what it says it is?

Three kinds of path are understood: a checkpoint folder of a run (with manifest.json), an adapter folder of mlx-lm, and
a single safetensors file. `full=False` reads only names, sizes, headers and the manifest: enough to rule out torn files
in milliseconds. `full=True` also reads every byte once, for the hash and the values. Both hold names, shapes and types
against the base model where that can be found.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from stoker.recovery.checkpoint import folder
from stoker.recovery.checkpoint.findings import Findings
from stoker.recovery.checkpoint.look import Look, fit, read_object, read_tensors
from stoker.recovery.checkpoint.manifest import MANIFEST, STATE, WEIGHTS, parse_name
from stoker.recovery.checkpoint.origin import ADAPTER_CONFIG, Origin, origin_of

Kind = Literal["checkpoint", "adapter", "safetensors"]

ADAPTER = "adapters.safetensors"


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
        model: the base model that names, shapes and types were held against; None when there is none.
        compared: how many tensors of the weights were held against it.
    """

    path: Path
    ok: bool
    problems: tuple[str, ...]
    iteration: int | None
    kind: Kind
    sha256: str | None
    notes: tuple[str, ...] = ()
    model: Path | None = None
    compared: int = 0


def verify(path: Path, *, full: bool = True, finite: bool = True, origin: Origin | None = None) -> Verdict:
    """Look at a checkpoint folder, an adapter folder or a safetensors file. Never raises for what is on the disk.

    Args:
        path: of any of the three.
        full: whether to read every byte.
        finite: whether to look for nan and inf; False where that is known: numpy stays out of memory (15 MB) then.
        origin: what it was trained from and how; None = look for that beside the path, as a run and mlx-lm leave it.
    """
    kind = kind_of(path)
    origin = origin_of(path) if origin is None else origin
    found = Findings(notes=[origin.note] if origin.note else [])
    looks: dict[Kind, Callable[[Path, Look], int | None]] = {
        "checkpoint": folder.examine,
        "adapter": _adapter,
        "safetensors": _file,
    }
    try:
        iteration = looks[kind](path, Look(full, finite, origin, found))
    except OSError as error:
        iteration = None
        found.problems.append(f"{path.name}: cannot be read ({error.strerror or error})")
    main = {"checkpoint": WEIGHTS, "adapter": ADAPTER, "safetensors": path.name}[kind]
    return Verdict(
        path=path,
        ok=not found.problems,
        problems=tuple(found.problems),
        iteration=iteration,
        kind=kind,
        sha256=found.sha256.get(main),
        notes=tuple(found.notes),
        model=origin.model.folder if origin.model and found.compared else None,
        compared=found.compared,
    )


def kind_of(path: Path) -> Kind:
    """What a path is to be taken for: by its manifest, its name, or being a file."""
    if not path.is_dir():
        return "safetensors"
    named = parse_name(path.name) is not None
    return "checkpoint" if named or (path / MANIFEST).exists() or (path / STATE).exists() else "adapter"


def _adapter(path: Path, look: Look) -> int | None:
    files = sorted(path.glob("*.safetensors"))
    if not files:
        look.found.problems.append(f"{path.name}: holds neither {MANIFEST} nor a safetensors file")
        return None
    read_object(path / ADAPTER_CONFIG, look.found)
    for file in files:
        read_tensors(file, look, weights=True)
        if file.name in look.found.names and file.name.endswith(ADAPTER):
            fit(file.name, None, look)
    return None


def _file(path: Path, look: Look) -> int | None:
    if not path.exists():
        look.found.problems.append(f"{path.name}: does not exist")
        return None
    read_tensors(path, look, weights="optimizer" not in path.name)
    if path.name in look.found.names and (path.name == WEIGHTS or path.name.endswith(ADAPTER)):
        fit(path.name, None, look)
    numbered = re.match(r"^(\d{7,})_adapters\.safetensors$", path.name)
    return int(numbered.group(1)) if numbered else None
