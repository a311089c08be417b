"""Writing checkpoints: staged, put on the disk, then committed by one rename. A second thread does it while training
goes on.
"""

import errno
import json
import math
import shutil
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from stoker.recovery.checkpoint import manifest as manifests
from stoker.recovery.checkpoint.manifest import MANIFEST, OPTIMIZER, STATE, WEIGHTS, FileFacts, Manifest
from stoker.supervisor.failpoints import hit
from stoker.supervisor.trainer.durable import sync_folder, write_durably
from stoker.supervisor.trainer.outcomes import Fault
from stoker.supervisor.trainer.snapshot import HostTensor, byte_count, pieces, safetensors_header

_DISK_FULL = {errno.ENOSPC, errno.EDQUOT}


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Everything a checkpoint is made of, in memory; writing it needs no mlx."""

    iteration: int
    step: int
    weights: tuple[HostTensor, ...]
    optimizer: tuple[HostTensor, ...]
    state: Mapping[str, Any]
    train_loss: float | None

    @property
    def bytes(self) -> int:
        """Size of the tensors."""
        return byte_count(self.weights) + byte_count(self.optimizer)


@dataclass(frozen=True, slots=True)
class Origin:
    """What all checkpoints of one attempt have in common."""

    run_id: str
    attempt: int
    from_iteration: int
    parent: str | None
    fine_tune_type: str
    config_sha256: str
    versions: Mapping[str, str]


class CheckpointWriter:
    """Commits snapshots one after the other into `checkpoints`, and removes old ones of this lineage."""

    def __init__(
        self,
        checkpoints: Path,
        staging: Path,
        origin: Origin,
        keep: int,
        check: Callable[[Snapshot], None],
        on_commit: Callable[..., None],
    ) -> None:
        self._checkpoints, self._staging = checkpoints, staging
        self._origin, self._keep = origin, keep
        self._parent = origin.parent
        self._check, self._on_commit = check, on_commit
        self._thread: threading.Thread | None = None
        self._snapshot: Snapshot | None = None
        self._error: Exception | None = None
        checkpoints.mkdir(parents=True, exist_ok=True)
        _empty(staging)

    def exists(self, iteration: int) -> bool:
        """Whether this attempt has committed that iteration already."""
        return (self._checkpoints / self._name(iteration)).exists()

    def write(self, snapshot: Snapshot, *, background: bool, waiting: Callable[[], None]) -> None:
        """Commit a snapshot, now or in the background; a commit that is still under way comes first."""
        self.settle(waiting)
        if self.exists(snapshot.iteration):
            return
        self._snapshot = snapshot
        self._thread = threading.Thread(target=self._run, name="checkpoint-writer", daemon=True)
        self._thread.start()
        if not background:
            self.settle(waiting)

    def settle(self, waiting: Callable[[], None]) -> None:
        """Wait for the commit under way, calling `waiting` once a second; raises what it met."""
        while self._thread is not None and self._thread.is_alive():
            waiting()
            self._thread.join(timeout=1.0)
        self.poll()

    def poll(self) -> None:
        """Raise what a finished commit met; drops its snapshot here, on the training thread, because that frees mlx
        arrays.
        """
        if self._thread is None or self._thread.is_alive():
            return
        iteration = self._snapshot.iteration if self._snapshot else 0
        self._thread, self._snapshot = None, None
        error, self._error = self._error, None
        if isinstance(error, OSError) and error.errno in _DISK_FULL:
            raise disk_full(f"cannot write the checkpoint of iteration {iteration} below {self._staging}", error)
        if error is not None:
            raise error

    def _run(self) -> None:
        assert self._snapshot is not None
        try:
            self._commit(self._snapshot)
        except Exception as error:  # noqa: BLE001 - carried to the training thread, which raises it in poll()
            shutil.rmtree(self._staging / self._name(self._snapshot.iteration), ignore_errors=True)
            self._error = error

    def _commit(self, snapshot: Snapshot) -> None:
        self._check(snapshot)  # here and not before the snapshot was taken: training need not wait for it
        hit("checkpoint.begin")
        began = time.monotonic()
        name = self._name(snapshot.iteration)
        staged, final = self._staging / name, self._checkpoints / name
        _empty(staged)
        files = {
            WEIGHTS: _write_tensors(staged, "weights", snapshot.weights),
            OPTIMIZER: _write_tensors(staged, "optimizer", snapshot.optimizer),
            STATE: _write_part(staged, "state", STATE, iter([json.dumps(snapshot.state, allow_nan=False).encode()])),
        }
        manifest = self._manifest(snapshot, files)
        _write_part(staged, "manifest", MANIFEST, iter([manifests.encode(manifest)]))
        hit("checkpoint.folder.fsync")
        sync_folder(staged)
        hit("checkpoint.rename.before")
        staged.rename(final)
        hit("checkpoint.rename.after")
        sync_folder(self._checkpoints)
        hit("checkpoint.parent.fsync.after")
        self._parent = name
        size = sum(facts.size for facts in files.values())
        self._on_commit(iteration=snapshot.iteration, name=name, bytes=size, seconds=time.monotonic() - began)
        self._prune()

    def _name(self, iteration: int) -> str:
        return manifests.checkpoint_name(iteration, self._origin.attempt)

    def _manifest(self, snapshot: Snapshot, files: Mapping[str, FileFacts]) -> Manifest:
        params = sum(math.prod(tensor.shape) for tensor in snapshot.weights)
        return Manifest(
            run_id=self._origin.run_id,
            attempt=self._origin.attempt,
            iteration=snapshot.iteration,
            step=snapshot.step,
            parent=self._parent,
            created_at=datetime.now(UTC).isoformat(timespec="milliseconds"),
            fine_tune_type=self._origin.fine_tune_type,
            files=files,
            config_sha256=self._origin.config_sha256,
            versions=self._origin.versions,
            train_loss=snapshot.train_loss,
            finite=True,
            tensors={"count": len(snapshot.weights), "params": params},
        )

    def _prune(self) -> None:
        """Keep the newest of this lineage: what this attempt wrote, and what earlier ones wrote up to where this one
        began.
        """
        lineage = []
        for path in self._checkpoints.iterdir():
            parsed = manifests.parse_name(path.name)
            if parsed is None or not (path / MANIFEST).exists():
                continue
            iteration, attempt = parsed
            earlier = attempt < self._origin.attempt and iteration <= self._origin.from_iteration
            if attempt == self._origin.attempt or earlier:
                lineage.append((iteration, attempt, path))
        for _iteration, _attempt, path in sorted(lineage, reverse=True)[self._keep :]:
            hit("checkpoint.prune.before")
            doomed = self._staging / f"pruned-{path.name}"
            path.rename(doomed)  # out of sight in one step: a half-deleted folder is never taken for a checkpoint
            hit("checkpoint.prune.after")
            shutil.rmtree(doomed)


def disk_full(what: str, error: OSError) -> Fault:
    """The fault for a write that found no room."""
    advice = "Make room, then resume; older checkpoints are untouched"
    return Fault("disk_full", f"{what}: {error.strerror or error}", advice=advice)


def _empty(folder: Path) -> None:
    """Make the folder, without what an earlier attempt may have left in it."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True, exist_ok=True)


def _write_tensors(folder: Path, part: str, tensors: tuple[HostTensor, ...]) -> FileFacts:
    def content() -> Iterator[bytes | memoryview]:
        yield safetensors_header(tensors)
        hit(f"checkpoint.{part}.write")
        yield from pieces(tensors)

    return _write_part(folder, part, f"{part}.safetensors", content())


def _write_part(folder: Path, part: str, name: str, content: Iterator[bytes | memoryview]) -> FileFacts:
    hit(f"checkpoint.{part}.before")
    facts = write_durably(folder / name, content, before_sync=lambda: hit(f"checkpoint.{part}.fsync"))
    hit(f"checkpoint.{part}.after")
    return facts
