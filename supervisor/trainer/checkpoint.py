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
from stoker.supervisor.host.disk import free_bytes
from stoker.supervisor.trainer.durable import sync_folder, write_durably
from stoker.supervisor.trainer.outcomes import Fault
from stoker.supervisor.trainer.retention import Kept, expendable, lineage
from stoker.supervisor.trainer.snapshot import HostTensor, byte_count, pieces, safetensors_header

_DISK_FULL = {errno.ENOSPC, errno.EDQUOT}
_BESIDE_TENSORS = 1 << 20  # bytes: headers, state.json, manifest.json


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


@dataclass(frozen=True, slots=True)
class Place:
    """Where checkpoints are written and how much of it they may use: `keep` of them, with `min_free` bytes left over."""

    checkpoints: Path
    staging: Path
    keep: int
    min_free: int


@dataclass(frozen=True, slots=True)
class Watcher:
    """What the writer asks and tells; all but `finished` are called on the writer's thread.

    Attributes:
        check: raises a Fault for a snapshot that must not be written.
        committed: a checkpoint is durable; called with the facts for its row in the metrics.
        bad: a checkpoint that was read back is not what was written; called with its name and the problems.
        finished: called on the training thread with bytes and seconds of the write, once the writer has ended.
    """

    check: Callable[[Snapshot], None]
    committed: Callable[..., None]
    bad: Callable[[str, list[str]], None]
    finished: Callable[[int, float], None]


class CheckpointWriter:
    """Commits snapshots one after the other, reads each back, and removes old ones of this lineage.

    `onset` is the iteration of the last suspected trouble: the newest checkpoint from before it stays, too.
    """

    def __init__(self, place: Place, origin: Origin, watcher: Watcher) -> None:
        self._place, self._origin, self._watcher = place, origin, watcher
        self._parent = origin.parent
        self._good = {origin.parent}  # the daemon verified the one that this attempt resumed from
        self.onset: int | None = None
        self._thread: threading.Thread | None = None
        self._snapshot: Snapshot | None = None
        self._error: Exception | None = None
        self._began = 0.0
        self._took = 0.0  # seconds
        place.checkpoints.mkdir(parents=True, exist_ok=True)
        _empty(place.staging)

    @property
    def busy(self) -> bool:
        """Whether a commit is under way, or has ended unnoticed."""
        return self._thread is not None

    def exists(self, iteration: int) -> bool:
        """Whether this attempt has committed that iteration already."""
        return (self._place.checkpoints / self._name(iteration)).exists()

    def begin(self, snapshot: Snapshot) -> None:
        """Start to commit a snapshot in the background; the one before must be settled."""
        assert self._thread is None
        self._snapshot, self._began = snapshot, time.monotonic()
        self._thread = threading.Thread(target=self._run, name="checkpoint-writer", daemon=True)
        self._thread.start()

    def wait(self, waiting: Callable[[], None]) -> None:
        """Let the commit under way end, calling `waiting` once a second."""
        while self._thread is not None and self._thread.is_alive():
            waiting()
            self._thread.join(timeout=1.0)

    def settle(self, waiting: Callable[[], None]) -> None:
        """Wait for the commit under way; raises what it met."""
        self.wait(waiting)
        self.poll()

    def poll(self) -> None:
        """Raise what a finished commit met; drops its snapshot here, on the training thread, because that frees mlx
        arrays.
        """
        if self._thread is None or self._thread.is_alive():
            return
        assert self._snapshot is not None
        iteration, size = self._snapshot.iteration, self._snapshot.bytes
        self._thread, self._snapshot = None, None
        error, self._error = self._error, None
        if isinstance(error, OSError) and error.errno in _DISK_FULL:
            what = f"cannot write the checkpoint of iteration {iteration} below {self._place.staging}"
            raise disk_full(what, error, needs=self._wanted(size))
        if error is not None:
            raise error
        self._watcher.finished(size, self._took)

    def _run(self) -> None:
        assert self._snapshot is not None
        try:
            self._commit(self._snapshot)
        except Exception as error:  # noqa: BLE001 - carried to the training thread, which raises it in poll()
            shutil.rmtree(self._place.staging / self._name(self._snapshot.iteration), ignore_errors=True)
            self._error = error
        self._took = time.monotonic() - self._began

    def _commit(self, snapshot: Snapshot) -> None:
        self._watcher.check(snapshot)  # here and not before the snapshot was taken: training need not wait for it
        hit("checkpoint.begin")
        began = time.monotonic()
        self._make_room(snapshot.bytes)
        name = self._name(snapshot.iteration)
        staged, final = self._place.staging / name, self._place.checkpoints / name
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
        sync_folder(self._place.checkpoints)
        hit("checkpoint.parent.fsync.after")
        self._parent = name
        size = sum(facts.size for facts in files.values())
        self._watcher.committed(iteration=snapshot.iteration, name=name, bytes=size, seconds=time.monotonic() - began)
        self._read_back(final, manifest)

    def _read_back(self, checkpoint: Path, manifest: Manifest) -> None:
        """Prune only after the newer checkpoint was read again and is what was written."""
        problems = manifests.hash_problems(checkpoint, manifest)
        if problems:
            self._watcher.bad(checkpoint.name, problems)
            return
        self._good.add(checkpoint.name)
        for old in expendable(self._lineage(), self._place.keep, self.onset):
            self._remove(old)

    def _make_room(self, size: int) -> None:
        """Stop before a write that cannot end well. Where it is enough, older checkpoints go first, as long as a good
        newest one stays.
        """
        rows, wanted = self._lineage(), self._wanted(size)
        spare = expendable(rows, 1, None) if rows and rows[0].path.name in self._good else []
        free = self._free()
        if free + sum(old.bytes for old in spare) < wanted:
            raise Fault(
                "disk_full",
                f"{free / 1e9:.2f} GB free at {self._place.checkpoints}, a checkpoint needs {wanted / 1e9:.2f} GB "
                f"({self._place.min_free / 1e9:.2f} GB of them stay free)",
                advice=ADVICE,
                needs=wanted,
            )
        for old in spare:
            if self._free() >= wanted:
                return
            self._remove(old)

    def _wanted(self, size: int) -> int:
        return size + _BESIDE_TENSORS + self._place.min_free

    def _free(self) -> int:
        return free_bytes(self._place.staging)

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

    def _lineage(self) -> list[Kept]:
        return lineage(self._place.checkpoints, self._origin.attempt, self._origin.from_iteration)

    def _remove(self, old: Kept) -> None:
        hit("checkpoint.prune.before")
        doomed = self._place.staging / f"pruned-{old.path.name}"
        old.path.rename(doomed)  # out of sight in one step: a half-deleted folder is never taken for a checkpoint
        hit("checkpoint.prune.after")
        shutil.rmtree(doomed)


ADVICE = "Make room, then resume; older checkpoints are untouched"


def disk_full(what: str, error: OSError, *, needs: int | None = None) -> Fault:
    """The fault for a write that found no room; `needs` bytes have to be free."""
    return Fault("disk_full", f"{what}: {error.strerror or error}", advice=ADVICE, needs=needs)


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
