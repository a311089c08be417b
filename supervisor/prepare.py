"""Prepare an attempt: choose the checkpoint, write config.yaml and launch.json, build the environment.

Runs beside the daemon's loop when there is something to verify; it touches only the run's own folder.
"""

import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from stoker.profiles.resolve import fill
from stoker.profiles.yaml_scalars import dump
from stoker.recovery.adjust import Applied, apply
from stoker.recovery.checkpoint.choose import Candidate, Choice, candidates, choose
from stoker.recovery.edited import labels
from stoker.supervisor import trainer as trainer_package
from stoker.supervisor.environment import trainer_environment
from stoker.supervisor.exactness import read_verdicts
from stoker.supervisor.files import write_atomic, write_json
from stoker.supervisor.paths import Home
from stoker.supervisor.verified import Verified

TRAINER_MAIN = Path(next(iter(trainer_package.__path__))) / "main.py"


@dataclass(frozen=True, slots=True)
class Bounds:
    """What checkpoints are bound by beside the job's own wishes.

    Attributes:
        write_per_s: bytes of checkpoints per second that the write budget allows; None = no limit.
        min_free: bytes that must stay free on their volume.
        suspect: the last iteration of this run at which trouble was suspected; None = never.
        mtbf_s: seconds of training between failures on this machine. It changes with every end of another run, and
            that is no reason to prepare an attempt anew.
    """

    write_per_s: float | None
    min_free: int
    suspect: int | None
    mtbf_s: float = field(compare=False)


@dataclass(frozen=True, slots=True)
class Request:
    """What an attempt is prepared from.

    Attributes:
        home, run_id, n: where.
        job: the frozen job: config, stoker, base_dir, every, keep (from the store).
        env: environment of the job, values included (from job.yaml; never stored elsewhere).
        settings_env: of stoker.yaml.
        adjustments: records in force, oldest first.
        next: how the attempt starts; None: from iteration 0.
        starts: attempt -> iteration it started from.
        jit: number of the kernel cache.
        bounds: of its checkpoints.
    """

    home: Home
    run_id: str
    n: int
    job: Mapping[str, Any]
    env: Mapping[str, str]
    settings_env: Mapping[str, str]
    adjustments: tuple[Mapping[str, Any], ...]
    next: Mapping[str, Any] | None
    starts: Mapping[int, int]
    jit: int
    bounds: Bounds


@dataclass(frozen=True, slots=True)
class Prepared:
    """A prepared attempt.

    Attributes:
        request: what it was made from.
        choice: the checkpoint, and those that failed verification on the way.
        environment: of the trainer.
        config: the stock mlx-lm configuration that was written.
    """

    request: Request
    choice: Choice
    environment: Mapping[str, str]
    config: Mapping[str, Any]

    @property
    def checkpoint(self) -> Candidate | None:
        """Where it resumes; None: from iteration 0."""
        return self.choice.chosen

    @property
    def from_iteration(self) -> int:
        """Iterations that are complete when it starts."""
        return self.checkpoint.iteration if self.checkpoint else 0

    @property
    def resume(self) -> str:
        """The label that is expected; the trainer may find a reason to call it warm."""
        if self.checkpoint is None:
            return "fresh"
        return str((self.request.next or {}).get("mode") or "exact")


def select(request: Request, verified: Verified) -> Choice:
    """Return the newest checkpoint that is good now and not above the target; none for a start from iteration 0."""
    target = int((request.next or {}).get("target") or 0)
    if target <= 0:
        return Choice(None, ())
    found = candidates(request.home.run(request.run_id).checkpoints)
    return choose(found, request.starts, verified.verdict, before=target + 1)


def prepare(request: Request, choice: Choice) -> Prepared:
    """Write the attempt's files.

    Raises:
        OSError: they cannot be written.
    """
    paths = request.home.run(request.run_id).attempt(request.n)
    start = choice.chosen.iteration if choice.chosen else 0
    applied = apply(request.job["config"], request.adjustments, {**request.starts, request.n: start})
    temp = request.home.cache / f"jit-{request.jit}"
    for folder in (paths.dir, temp):
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    offline = choice.chosen is not None
    environment = trainer_environment(os.environ, request.settings_env, request.env, temp=temp, offline=offline)
    prepared = Prepared(request, choice, environment, applied.config)
    write_atomic(paths.config, dump(applied.config).encode())
    write_json(paths.launch, _launch(prepared, applied))
    return prepared


def _launch(prepared: Prepared, options: Applied) -> dict[str, Any]:
    request = prepared.request
    run = request.home.run(request.run_id)
    attempt = run.attempt(request.n)
    stoker = request.job["stoker"]
    launch: dict[str, Any] = {
        "v": 1,
        "run_id": request.run_id,
        "attempt": request.n,
        "cwd": request.job["base_dir"] or str(run.dir),
        "env_names": sorted(prepared.environment),
    }
    python = stoker.get("python") or sys.executable
    if command := stoker.get("command"):
        own = {"python": python, "run_id": request.run_id, "attempt": request.n, "run_dir": run.dir}
        launch["argv"] = list(fill(tuple(command), {**prepared.config, **own}))
        return launch
    launch["argv"] = [str(python), str(TRAINER_MAIN), str(attempt.dir)]
    resume = None
    if prepared.checkpoint:
        resume = {"checkpoint": str(prepared.checkpoint.path), "mode": prepared.resume}
    launch["trainer"] = {
        "run_dir": str(run.dir),
        "checkpoints": str(run.checkpoints),
        "staging": str(run.staging),
        "inputs": str(run.inputs),
        "resume": resume,
        # A run that was accepted before there was `auto` keeps the rhythm that it was accepted with.
        "every": {"auto": False, **request.job["every"]},
        "keep": request.job["keep"],
        "write_per_s": request.bounds.write_per_s,
        "min_free": request.bounds.min_free,
        "mtbf_s": request.bounds.mtbf_s,
        "suspect": request.bounds.suspect,
        "micro_batch": options.micro_batch,
        "learning_rate": list(options.learning_rate),
        "labels": labels(request.adjustments, {**request.starts, request.n: prepared.from_iteration}),
        "exactness": read_verdicts(request.home.exactness),
        "accept_changed": bool((request.next or {}).get("accept_changed")),
        "allow_partial": "num-layers" in stoker["preflight"]["allow"],
        "test": request.job["test"],
        "drill": drill_for(stoker.get("drill") or [], request.n),
    }
    return launch


def drill_for(drill: list[Mapping[str, Any]], n: int) -> list[Mapping[str, Any]]:
    """Return the faults that are due in attempt `n`; `attempts` None = in all (the job's schema has the defaults)."""
    return [
        {key: value for key, value in fault.items() if key != "attempts"}
        for fault in drill
        if fault["attempts"] is None or n in fault["attempts"]
    ]
