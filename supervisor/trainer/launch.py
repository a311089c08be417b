"""What the daemon wants of this attempt: launch.json, read once."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True, slots=True)
class Resume:
    """The checkpoint to go on from, with its full state ("exact") or with its weights only ("warm")."""

    checkpoint: Path
    mode: str


@dataclass(frozen=True, slots=True)
class Factor:
    """The learning rate is multiplied by `factor` from optimizer step `from_step` on, rising to it over `ramp_steps`
    steps.
    """

    from_step: int
    factor: float
    ramp_steps: int


@dataclass(frozen=True, slots=True)
class Injection:
    """One injected fault; `at` is an iteration, `above` a number of rows per forward pass."""

    fault: str
    at: int | None
    above: int | None


@dataclass(frozen=True, slots=True)
class Launch:
    """Everything the trainer needs beside config.yaml. Paths are absolute."""

    directory: Path
    run_id: str
    attempt: int
    checkpoints: Path
    staging: Path
    inputs: Path
    resume: Resume | None
    every_iterations: int | None
    every_seconds: float | None
    keep: int
    micro_batch: int | None
    learning_rate: tuple[Factor, ...]
    accept_changed: bool
    allow_partial: bool
    test: bool
    drill: tuple[Injection, ...]

    @property
    def config(self) -> Path:
        """The stock mlx-lm config of this attempt."""
        return self.directory / "config.yaml"


def read_launch(attempt_dir: Path) -> Launch:
    """The launch.json of an attempt; KeyError and ValueError mean that daemon and trainer are of different versions."""
    document: dict[str, Any] = json.loads((attempt_dir / "launch.json").read_bytes())
    if document["v"] != 1:
        raise ValueError(f"{attempt_dir}/launch.json: version {document['v']!r}, this trainer reads version 1")
    wants = document["trainer"]
    every = wants.get("every") or {}
    resume = wants.get("resume")
    return Launch(
        directory=attempt_dir,
        run_id=document["run_id"],
        attempt=document["attempt"],
        checkpoints=Path(wants["checkpoints"]),
        staging=Path(wants["staging"]),
        inputs=Path(wants["inputs"]),
        resume=Resume(Path(resume["checkpoint"]), resume["mode"]) if resume else None,
        every_iterations=every.get("iterations"),
        every_seconds=every.get("seconds"),
        keep=max(1, wants.get("keep", 3)),
        micro_batch=wants.get("micro_batch"),
        learning_rate=tuple(
            Factor(row["from_step"], row["factor"], row.get("ramp_steps", 0))
            for row in wants.get("learning_rate") or ()
        ),
        accept_changed=wants.get("accept_changed", False),
        allow_partial=wants.get("allow_partial", False),
        test=wants.get("test", False),
        drill=tuple(Injection(row["fault"], row.get("at"), row.get("above")) for row in wants.get("drill") or ()),
    )
