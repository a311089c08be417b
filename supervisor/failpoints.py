"""Labelled points at which a test may kill, delay or fail a process. Standard library only; off unless an environment
variable names points.

``STOKER_FAILPOINTS="checkpoint.rename.before:kill@2,checkpoint.weights.write:enospc"``: at the second time the
process reaches ``checkpoint.rename.before`` it kills itself with SIGKILL; each write of checkpoint weights fails as
on a full disk.

Actions:
    kill            SIGKILL to the process itself: what power loss and the out-of-memory killer look like from inside.
    enospc, eio     raise the OSError that a full or a broken disk gives.
    delay=SECONDS   sleep: opens a window in which something else can happen.

``@k`` restricts an action to the k-th time the point is reached (counted from 1); without it the action happens every
time.
"""

import errno
import os
import signal
import time
from collections.abc import Mapping
from dataclasses import dataclass

VARIABLE = "STOKER_FAILPOINTS"

POINTS: dict[str, str] = {
    # checkpoint writer (trainer process)
    "checkpoint.begin": "before the staging folder of a checkpoint is made",
    "checkpoint.weights.before": "before weights.safetensors is opened in staging",
    "checkpoint.weights.write": "in the middle of weights.safetensors: its header is written, its tensors are not",
    "checkpoint.weights.fsync": "weights.safetensors is written, not yet fsynced",
    "checkpoint.weights.after": "weights.safetensors is on disk",
    "checkpoint.optimizer.before": "before optimizer.safetensors is opened in staging",
    "checkpoint.optimizer.write": "in the middle of optimizer.safetensors",
    "checkpoint.optimizer.fsync": "optimizer.safetensors is written, not yet fsynced",
    "checkpoint.optimizer.after": "optimizer.safetensors is on disk",
    "checkpoint.state.before": "before state.json is opened in staging",
    "checkpoint.state.fsync": "state.json is written, not yet fsynced",
    "checkpoint.state.after": "state.json is on disk",
    "checkpoint.manifest.before": "before manifest.json is opened in staging",
    "checkpoint.manifest.fsync": "manifest.json is written, not yet fsynced",
    "checkpoint.manifest.after": "manifest.json is on disk",
    "checkpoint.folder.fsync": "before the staging folder itself is fsynced",
    "checkpoint.rename.before": "everything is on disk, the rename into checkpoints/ has not happened",
    "checkpoint.rename.after": "renamed, the parent folder is not yet fsynced",
    "checkpoint.parent.fsync.after": "the checkpoint is committed and durable; nothing was pruned yet",
    "checkpoint.prune.before": "an old checkpoint is about to be moved out of checkpoints/",
    "checkpoint.prune.after": "an old checkpoint is out of checkpoints/, its bytes are not yet deleted",
    # files in adapter_path (trainer process)
    "adapter.save.before": "before the temporary file of an adapter is written",
    "adapter.save.fsync": "the temporary adapter file is written, not yet fsynced",
    "adapter.rename.before": "before the temporary adapter file is renamed to its name",
    "adapter.rename.after": "an adapter file has its name, its folder is not yet fsynced",
    "adapter.final.before": "training is over, the final adapter is not yet written",
    "adapter.final.after": "the final adapter is durable, the metrics do not say so yet",
    # training loop (trainer process)
    "trainer.load.before": "before the model is loaded",
    "trainer.inputs.before": "before inputs.json is written for the first time",
    "trainer.loop.begin": "model, optimizer and data position are in place, no iteration was run",
    "trainer.compile.before": "before the step is traced and compiled for a new shape",
    "trainer.validate.batch": "before each validation batch",
    "trainer.iteration.end": "after each iteration, its report and its saves",
    # the daemon
    "daemon.claim.noted": "the run's folder and the note of the claim are there, the job file is where it was",
    "daemon.claim.aside": "a file from another volume is out of sight in its folder, not yet in the run's folder",
    "daemon.claim.moved": "the job file is in the run's folder, the run has no row",
    "daemon.command.done": "a command is carried out and answered, its effects are not performed",
    "daemon.edit.written": "the edited job file is in place, the run's row is not changed",
    "daemon.launch.leased": "the lease is taken, nothing of the attempt is recorded",
    "daemon.launch.recorded": "the attempt is recorded as starting, no shim was started",
    "daemon.launch.spawned": "the shim was started, the daemon has not looked at it yet",
    "daemon.settle.before": "the end of an attempt is examined, nothing of it is recorded",
    "daemon.settle.after": "the end of an attempt is recorded, its effects are not performed",
    # the shim, which imports nothing: `kill` only, and @k is the k-th attempt (see shim.hit)
    "shim.start": "the shim runs, the attempt is not claimed",
    "shim.claimed": "run.json is there, no trainer was started",
    "shim.spawned": "the trainer lives, run.json does not name it",
    "shim.named": "run.json names the trainer",
    "shim.ended": "the trainer has ended, exit.json is not written",
    "shim.recorded": "exit.json is written",
}

_NO_LIMIT = 0


@dataclass(frozen=True, slots=True)
class Rule:
    """One action at one point; `only_hit` is the count at which it happens, 0 = each time."""

    point: str
    action: str
    seconds: float
    only_hit: int


def list_points() -> dict[str, str]:
    """Each point with what has and has not happened when it is reached."""
    return dict(POINTS)


def parse(text: str) -> dict[str, list[Rule]]:
    """Rules by point from the variable's text; raises ValueError on a point or an action that does not exist."""
    rules: dict[str, list[Rule]] = {}
    for item in filter(None, (part.strip() for part in text.split(","))):
        rule = _parse_one(item)
        rules.setdefault(rule.point, []).append(rule)
    return rules


def _parse_one(item: str) -> Rule:
    point, colon, rest = item.partition(":")
    action, at, hit_text = rest.partition("@")
    name, _, value = action.partition("=")
    if not colon or point not in POINTS:
        raise ValueError(f"{VARIABLE}: {item!r} names no labelled point; failpoints.list_points() has them all")
    if name not in {"kill", "enospc", "eio", "delay"} or (name == "delay") != bool(value):
        raise ValueError(f"{VARIABLE}: {item!r} has no action among kill, enospc, eio, delay=SECONDS")
    return Rule(point, name, float(value) if value else 0.0, int(hit_text) if at else _NO_LIMIT)


_rules: Mapping[str, list[Rule]] = parse(os.environ.get(VARIABLE, ""))
_hits: dict[str, int] = {}


def hit(point: str) -> None:
    """Do what the environment asks for at this point; nothing, at the price of one test, when it asks for nothing."""
    if _rules:
        _act(point)


def _act(point: str) -> None:
    if point not in POINTS:
        raise ValueError(f"failpoint {point!r} is not in failpoints.POINTS; add it there with its description")
    _hits[point] = count = _hits.get(point, 0) + 1
    for rule in _rules.get(point, ()):
        if rule.only_hit in {_NO_LIMIT, count}:
            _perform(rule)


def _perform(rule: Rule) -> None:
    if rule.action == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
        time.sleep(60)  # the signal is on its way; nothing after this point may run
    elif rule.action == "delay":
        time.sleep(rule.seconds)
    else:
        number = errno.ENOSPC if rule.action == "enospc" else errno.EIO
        raise OSError(number, f"{os.strerror(number)} (failpoint {rule.point})")
