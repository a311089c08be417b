"""The whole state of training: what a checkpoint must hold so that going on from it gives the very same bytes.

Weights and optimizer are arrays. The rest is small: both random generators (numpy's draws the data order, mlx's the
dropout), the position in the epoch, and the sums of the report that is under way.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import mlx.core as mx
from mlx.utils import tree_flatten, tree_map_with_path, tree_unflatten

from stoker.recovery.checkpoint import manifest as manifests
from stoker.recovery.checkpoint.manifest import OPTIMIZER, STATE, WEIGHTS, Manifest
from stoker.supervisor.trainer.data import BatchStream
from stoker.supervisor.trainer.generators import (
    NumpyState,
    decode_numpy,
    encode_numpy,
    key_words,
    mlx_key,
    numpy_state,
    restore_mlx,
)
from stoker.supervisor.trainer.guards import listed
from stoker.supervisor.trainer.outcomes import Fault, LastFinite
from stoker.supervisor.trainer.scalars import count, number
from stoker.supervisor.trainer.snapshot import host_tensors

VERSION = 1


@dataclass(slots=True)
class Progress:
    """What the loop counts. `losses` and `tokens` belong to the report under way and are mlx arrays once it has begun."""

    iteration: int = 0
    step: int = 0
    losses: Any = 0
    tokens: Any = 0
    batches: int = 0
    trained_tokens: int = 0
    train_time: float = 0.0  # seconds


@dataclass(frozen=True, slots=True)
class Mark:
    """The state at a completed optimizer step beside the parameters, which do not move until the next one."""

    iteration: int
    step: int
    losses: Any
    tokens: Any
    batches: int
    trained_tokens: int
    train_time: float
    numpy_now: NumpyState
    numpy_epoch: NumpyState
    position: int
    key: mx.array
    last_finite: LastFinite | None

    @classmethod
    def of(cls, progress: Progress, stream: BatchStream, last_finite: LastFinite | None) -> "Mark":
        """The state now; a few microseconds, because mlx arrays never change and need no copy."""
        return cls(
            iteration=progress.iteration,
            step=progress.step,
            losses=progress.losses,
            tokens=progress.tokens,
            batches=progress.batches,
            trained_tokens=progress.trained_tokens,
            train_time=progress.train_time,
            numpy_now=numpy_state(),
            numpy_epoch=stream.epoch_start,
            position=stream.position,
            key=mlx_key(),
            last_finite=last_finite,
        )

    def document(self, start_digest: str, per_epoch: int) -> dict[str, Any]:
        """The content of state.json."""
        last = self.last_finite
        return {
            "v": VERSION,
            "iteration": self.iteration,
            "step": self.step,
            "report": {
                "losses": number(self.losses),
                "tokens": count(self.tokens),
                "batches": self.batches,
                "trained_tokens": self.trained_tokens,
                "train_time": self.train_time,
            },
            "epoch": {"position": self.position, "batches": per_epoch, "numpy": encode_numpy(self.numpy_epoch)},
            "numpy": encode_numpy(self.numpy_now),
            "mlx_key": list(key_words(self.key)),
            "last_finite": {"iteration": last.iteration, "train_loss": last.train_loss} if last else None,
            "start_digest": start_digest,
        }


@dataclass(frozen=True, slots=True)
class Saved:
    """A checkpoint that was read: its manifest and state; the arrays are still in the folder."""

    folder: Path
    manifest: Manifest
    state: Mapping[str, Any] = field(repr=False)

    @property
    def start_digest(self) -> str:
        """Digest of the parameters before the first iteration of the run."""
        return str(self.state["start_digest"])

    @property
    def last_finite(self) -> LastFinite | None:
        """The last finite train loss when the checkpoint was taken."""
        last = self.state["last_finite"]
        return LastFinite(last["iteration"], last["train_loss"]) if last else None

    @property
    def cost(self) -> Mapping[str, Any] | None:
        """What a checkpoint of this run was measured to cost; None before the first one."""
        return self.state.get("cost")

    @property
    def suspect(self) -> int | None:
        """The iteration of the last jump of the train loss."""
        return self.state.get("suspect")

    def progress(self) -> Progress:
        """The counters to go on with."""
        report = self.state["report"]
        begun = report["batches"] > 0
        return Progress(
            iteration=self.manifest.iteration,
            step=self.manifest.step,
            losses=mx.array(report["losses"], mx.float32) if begun else 0,
            tokens=mx.array(report["tokens"]) if begun else 0,
            batches=report["batches"],
            trained_tokens=report["trained_tokens"],
            train_time=report["train_time"],
        )

    def seek(self, stream: BatchStream) -> None:
        """Put data order, data position and both random generators where they were."""
        epoch = self.state["epoch"]
        stream.seek(decode_numpy(epoch["numpy"]), epoch["position"], decode_numpy(self.state["numpy"]))
        restore_mlx(*self.state["mlx_key"])


def read_saved(folder: Path) -> Saved:
    """Read manifest and state; sizes are compared here, hashes were the daemon's to check."""
    try:
        manifest = manifests.read(folder)
        problems = manifests.size_problems(folder, manifest)
        state = json.loads((folder / STATE).read_bytes()) if not problems else {}
        if not problems and (state["v"] != VERSION or state["iteration"] != manifest.iteration):
            problems = [f"{STATE}: version {state['v']} of iteration {state['iteration']} under {manifest.name}"]
    except (OSError, ValueError, KeyError) as error:
        raise Fault("checkpoint_mismatch", f"cannot read the checkpoint {folder}: {error}") from error
    if problems:
        raise Fault("checkpoint_mismatch", f"checkpoint {folder} is damaged: {listed(problems)}")
    return Saved(folder, manifest, state)


def load_weights(model: Any, saved: Saved) -> None:
    """Put the checkpoint's weights into the model; each name, shape and type must be that of a trainable parameter."""
    expected = dict(tree_flatten(model.trainable_parameters()))
    found = _load(saved.folder / WEIGHTS)
    _compare(expected, found, saved.folder / WEIGHTS, types=True)
    model.update(tree_unflatten(list(found.items())))
    mx.eval(model.parameters())  # mx.load is lazy: afterwards nothing refers to the file any more


def load_optimizer(model: Any, optimizer: Any, saved: Saved) -> None:
    """Put the checkpoint's optimizer state into a fresh optimizer of the same kind."""
    optimizer.init(model.trainable_parameters())
    expected = dict(tree_flatten(optimizer.state))
    found = _load(saved.folder / OPTIMIZER)
    _compare(expected, found, saved.folder / OPTIMIZER, types=False)
    optimizer.state = tree_map_with_path(lambda path, _: found[path], optimizer.state)
    optimizer.init(model.trainable_parameters())  # only marks it as initialized: all entries are there
    mx.eval(optimizer.state)


def warm_optimizer(optimizer: Any, saved: Saved) -> None:
    """A fresh optimizer whose learning-rate schedule goes on where it was."""
    optimizer.state["step"] = mx.array(saved.manifest.step, mx.uint64)


def digest(parameters: Mapping[str, mx.array]) -> str:
    """sha256 over names and bytes of arrays: tells whether training has changed anything."""
    sum_ = hashlib.sha256()
    for tensor in host_tensors(parameters):
        sum_.update(tensor.name.encode())
        sum_.update(tensor.data)
    return sum_.hexdigest()


def _load(path: Path) -> dict[str, mx.array]:
    try:
        arrays: Any = mx.load(str(path))
    except (RuntimeError, ValueError) as error:
        raise Fault("checkpoint_mismatch", f"cannot load {path}: {error}") from error
    return dict(arrays)


def _compare(expected: Mapping[str, mx.array], found: Mapping[str, mx.array], path: Path, *, types: bool) -> None:
    """Stop when a file does not hold exactly the expected arrays: a wrong one would train silently from the base
    weights.
    """
    problems = [f"{name} is missing" for name in expected.keys() - found.keys()]
    problems += [f"{name} is not a parameter of this run" for name in found.keys() - expected.keys()]
    for name in expected.keys() & found.keys():
        ours, theirs = expected[name], found[name]
        if ours.shape != theirs.shape or (types and ours.dtype != theirs.dtype):
            problems.append(f"{name} is {theirs.dtype} {theirs.shape}, expected {ours.dtype} {ours.shape}")
    if problems:
        raise Fault("checkpoint_mismatch", f"{path} does not fit this model and config: {listed(sorted(problems))}")
