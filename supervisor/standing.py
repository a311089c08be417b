"""Where a run stands between two attempts: the values in effect, and the checkpoint that it would go on from."""

import json
import sqlite3
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from stoker.profiles.edits import HIDDEN, MICRO_BATCH
from stoker.profiles.trainer_rows import TrainerRow, trainer_rows
from stoker.recovery.adjust import Applied, apply
from stoker.recovery.checkpoint.choose import Candidate, candidates, eligible
from stoker.supervisor.files import read_lines
from stoker.supervisor.paths import RunPaths
from stoker.supervisor.settling import NEWEST
from stoker.supervisor.states import ENDED


@dataclass(frozen=True)
class Standing:
    """A run of which no trainer is alive, and its attempts."""

    run: sqlite3.Row
    attempts: list[sqlite3.Row]
    paths: RunPaths

    @property
    def trainer(self) -> TrainerRow:
        """The row of its trainer."""
        return trainer_rows()[self.run["trainer"]]

    @cached_property
    def job(self) -> dict[str, Any]:
        """The stored record of its job."""
        job: dict[str, Any] = json.loads(self.run["job"])
        return job

    @cached_property
    def records(self) -> list[dict[str, Any]]:
        """The adjustments in force, oldest first."""
        records: list[dict[str, Any]] = json.loads(self.run["adjustments"])
        return records

    @cached_property
    def onward(self) -> dict[str, Any]:
        """How the next attempt starts; empty: from iteration 0."""
        return json.loads(self.run["next"]) if self.run["next"] else {}

    @property
    def continues(self) -> bool:
        """Whether the next attempt is the continuation of an earlier one, in the middle of the training."""
        return bool(self.run["attempt"]) and self.trainer.resume == "exact"

    @cached_property
    def checkpoint(self) -> Candidate | None:
        """The checkpoint to go on from, as far as the names say; it is verified when the attempt starts."""
        target = NEWEST if self.run["state"] in ENDED else int(self.onward.get("target") or 0)
        starts = {row["n"]: row["from_iteration"] for row in self.attempts}
        found = candidates(self.paths.checkpoints)
        return next((c for c in found if eligible(c, starts) and c.iteration <= target), None)

    @property
    def iteration(self) -> int:
        """The iteration that the next attempt starts from."""
        return self.checkpoint.iteration if self.checkpoint else 0

    @property
    def step(self) -> int:
        """Optimizer steps that are complete there."""
        return self.iteration // int(self.job["config"].get("grad_accumulation_steps") or 1)

    @cached_property
    def _applied(self) -> Applied:
        return apply(self.job["config"], self.records)

    def value(self, path: tuple[str, ...]) -> Any:
        """Return what is in effect of a key that can be edited; None where nothing is, or it is not known."""
        if path == (MICRO_BATCH,):
            return self._applied.micro_batch or self._applied.config.get("batch_size")
        if path == ("learning_rate",):
            return self._rate()
        return stored_value({**self.job, "config": self._applied.config}, path)

    def _rate(self) -> float | None:
        """The learning rate in effect: of a schedule what was reported last before where the next attempt starts."""
        if self.job["config"].get("lr_schedule"):
            return self._reported_rate()
        for record in reversed(self.records):
            if record["field"] == "learning_rate":
                return float(record["to"])
        rate: float | None = self.job["config"].get("learning_rate")
        return rate

    def _reported_rate(self) -> float | None:
        for attempt in reversed(self.attempts):
            if attempt["from_iteration"] >= self.iteration:
                continue
            for row in reversed(read_lines(self.paths.attempt(attempt["n"]).metrics)):
                if row.get("kind") == "train" and row["iteration"] <= self.iteration:
                    return float(row["learning_rate"])
        return None


def stored_value(job: Mapping[str, Any], path: tuple[str, ...]) -> Any:
    """Return what a stored record of a job says of a key; never the value of an environment variable."""
    if path[:2] == ("stoker", "env"):
        names = job["stoker"]["env_names"]
        return HIDDEN if (path[2] in names if len(path) > 2 else names) else None
    value: Any = {**job["config"], "stoker": job["stoker"]}
    for name in path:
        value = value.get(name) if isinstance(value, Mapping) else None
    return value
