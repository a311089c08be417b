"""The manifest of a checkpoint: what was written, by which attempt, with which hashes. Standard library only.

A checkpoint is a folder `{iteration:08d}-a{attempt}` that holds weights, optimizer, state and this manifest. The
folder reaches its name by one rename after everything in it is on disk; a folder without a manifest is not a
checkpoint.
"""

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

MANIFEST = "manifest.json"
WEIGHTS = "weights.safetensors"
OPTIMIZER = "optimizer.safetensors"
STATE = "state.json"
VERSION = 1

_NAME = re.compile(r"(\d{8,})-a(\d+)")
_CHUNK = 1 << 22  # bytes read at a time when a file is hashed


class ManifestError(ValueError):
    """A manifest that is missing, unreadable, or of a version this Stoker does not know."""


@dataclass(frozen=True, slots=True)
class FileFacts:
    """One file of a checkpoint: its size in bytes and its sha256 in hex."""

    size: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Manifest:
    """What a committed checkpoint says about itself; `iteration` and `step` are the last completed ones it holds."""

    run_id: str
    attempt: int
    iteration: int
    step: int
    parent: str | None
    created_at: str
    fine_tune_type: str
    files: Mapping[str, FileFacts]
    config_sha256: str
    versions: Mapping[str, str]
    train_loss: float | None
    finite: bool
    tensors: Mapping[str, int]

    @property
    def name(self) -> str:
        """The name of the folder that holds this checkpoint."""
        return checkpoint_name(self.iteration, self.attempt)


def checkpoint_name(iteration: int, attempt: int) -> str:
    """`00000120-a3`: sorts by iteration, says which attempt wrote it."""
    return f"{iteration:08d}-a{attempt}"


def parse_name(name: str) -> tuple[int, int] | None:
    """(iteration, attempt) of a checkpoint's folder name; None when it is not one."""
    match = _NAME.fullmatch(name)
    return (int(match[1]), int(match[2])) if match else None


def encode(manifest: Manifest) -> bytes:
    """The bytes of manifest.json."""
    return (json.dumps({"v": VERSION, **asdict(manifest)}, indent=1, allow_nan=False) + "\n").encode()


def decode(data: bytes, *, where: str) -> Manifest:
    """The manifest in `data`; `where` names the file in errors."""
    try:
        document = json.loads(data)
        if document["v"] != VERSION:
            raise ManifestError(f"{where}: manifest version {document['v']!r}, this Stoker reads version {VERSION}")
        return _from_document(document)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        if isinstance(error, ManifestError):
            raise
        raise ManifestError(f"{where}: not a checkpoint manifest ({type(error).__name__}: {error})") from error


def _from_document(document: Mapping[str, Any]) -> Manifest:
    loss = document["train_loss"]
    return Manifest(
        run_id=str(document["run_id"]),
        attempt=int(document["attempt"]),
        iteration=int(document["iteration"]),
        step=int(document["step"]),
        parent=None if document["parent"] is None else str(document["parent"]),
        created_at=str(document["created_at"]),
        fine_tune_type=str(document["fine_tune_type"]),
        files={str(k): FileFacts(int(v["size"]), str(v["sha256"])) for k, v in document["files"].items()},
        config_sha256=str(document["config_sha256"]),
        versions={str(k): str(v) for k, v in document["versions"].items()},
        train_loss=None if loss is None else float(loss),
        finite=bool(document["finite"]),
        tensors={str(k): int(v) for k, v in document["tensors"].items()},
    )


def read(checkpoint: Path) -> Manifest:
    """The manifest of the checkpoint in this folder."""
    path = checkpoint / MANIFEST
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ManifestError(f"{path}: {error.strerror or error}; a folder without it is not a checkpoint") from error
    return decode(data, where=str(path))


def size_problems(checkpoint: Path, manifest: Manifest) -> list[str]:
    """Files of the checkpoint that are missing or have another size than the manifest says (no hash is computed)."""
    problems = []
    for name, facts in manifest.files.items():
        path = checkpoint / name
        try:
            size = path.stat().st_size
        except OSError as error:
            problems.append(f"{name}: {error.strerror or error}")
            continue
        if size != facts.size:
            problems.append(f"{name}: {size} bytes, the manifest says {facts.size}")
    return problems


def hash_problems(checkpoint: Path, manifest: Manifest) -> list[str]:
    """Files of the checkpoint whose bytes are not those that the manifest was made for; reads all of them once."""
    problems = size_problems(checkpoint, manifest)
    if not problems:
        problems = [
            f"{name}: changed since it was written (its sha256 is not the manifest's)"
            for name, facts in manifest.files.items()
            if sha256_of(checkpoint / name) != facts.sha256
        ]
    return problems


def sha256_of(path: Path) -> str:
    """The sha256 of a file, in hex."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()
