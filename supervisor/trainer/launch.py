"""What the daemon wants of this attempt: launch.json, read once."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stoker.supervisor.trainer.labels import code_of


@dataclass(frozen=True, slots=True)
class Resume:
    """The checkpoint to go on from, with its full state ("exact") or with its weights only ("warm")."""

    checkpoint: Path
    mode: str


@dataclass(frozen=True, slots=True)
class Rhythm:
    """How often to commit a checkpoint.

    Attributes:
        iterations: between two checkpoints; with `auto` or `seconds` at the most.
        seconds: likewise.
        auto: the trainer decides within these bounds, from what checkpoints cost.
        write_per_s: bytes of checkpoints per second that may be written on average; None = any number.
        mtbf_s: seconds of training between failures.
    """

    iterations: int | None
    seconds: float | None
    auto: bool = False
    write_per_s: float | None = None
    mtbf_s: float | None = None


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
    """Everything the trainer needs beside config.yaml. Paths are absolute.

    `keep` newest checkpoints stay, and the newest from before `suspect`, the last iteration at which something may have
    gone wrong. `min_free` bytes stay free on their volume.
    """

    directory: Path
    run_id: str
    attempt: int
    checkpoints: Path
    staging: Path
    inputs: Path
    resume: Resume | None
    rhythm: Rhythm
    keep: int
    min_free: int
    suspect: int | None
    micro_batch: int | None
    learning_rate: tuple[Factor, ...]
    labels: tuple[str, ...]
    exactness: tuple[Mapping[str, Any], ...]
    accept_changed: bool
    allow_partial: bool
    test: bool
    drill: tuple[Injection, ...]

    @property
    def weights_only(self) -> bool:
        """Whether the optimizer's moments are to start anew. It is no matter of labels: an attempt that is called warm
        for another reason goes on with everything.
        """
        return self.resume is not None and self.resume.mode == "warm"

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
        rhythm=Rhythm(
            iterations=every.get("iterations"),
            seconds=every.get("seconds"),
            auto=every.get("auto", False),
            write_per_s=wants.get("write_per_s"),
            mtbf_s=wants.get("mtbf_s"),
        ),
        keep=max(1, wants.get("keep", 3)),
        min_free=wants.get("min_free", 0),
        suspect=wants.get("suspect"),
        micro_batch=wants.get("micro_batch"),
        learning_rate=tuple(
            Factor(row["from_step"], row["factor"], row.get("ramp_steps", 0))
            for row in wants.get("learning_rate") or ()
        ),
        labels=_known(wants.get("labels") or ()),
        exactness=tuple(wants.get("exactness") or ()),
        accept_changed=wants.get("accept_changed", False),
        allow_partial=wants.get("allow_partial", False),
        test=wants.get("test", False),
        drill=tuple(Injection(row["fault"], row.get("at"), row.get("above")) for row in wants.get("drill") or ()),
    )


def _known(labels: Iterable[str]) -> tuple[str, ...]:
    reasons = tuple(labels)
    for reason in reasons:
        code_of(reason)  # ValueError
    return reasons
