"""What a valid job may say, but the run that is edited may not."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from stoker.profiles.edits import MICRO_BATCH, Change
from stoker.profiles.job import Job
from stoker.profiles.schema import finite_number
from stoker.profiles.trainer_rows import capabilities
from stoker.supervisor.jobs import adapter_owner, circle
from stoker.supervisor.standing import Standing
from stoker.supervisor.states import State
from stoker.supervisor.store.write import Store


@dataclass(frozen=True, slots=True)
class Edited:
    """One change and the values in effect before and after it."""

    change: Change
    before: Any
    after: Any

    @property
    def key(self) -> str:
        """The key as a person writes it."""
        return self.change.key


def mistakes(edited: Edited, standing: Standing, job: Job | None, store: Store) -> Iterator[str]:
    """Yield what is wrong with a new value, in words; `job` is the edited one, None where that is no valid job."""
    if edited.key == "iters":
        yield from _iters(edited)
    elif edited.key == MICRO_BATCH:
        yield from _micro_batch(edited.after, standing)
    elif edited.key == "learning_rate" and standing.job["config"].get("lr_schedule"):
        yield from _scheduled_rate(edited.before, standing)
    elif edited.key == "stoker.needs" and job is not None and (way := circle(store, job, standing.run["run_id"])):
        yield f"stoker.needs: needs go round in a circle: {' -> '.join(way)}"


def _iters(edited: Edited) -> Iterator[str]:
    if finite_number(edited.before) and finite_number(edited.after) and edited.after < edited.before:
        fewer = "it only goes up, and fewer is a new job: stoker submit a copy"
        yield f"iters: {edited.after} is less than {edited.before}; {fewer}"


def _micro_batch(rows: Any, standing: Standing) -> Iterator[str]:
    batch = standing.job["config"].get("batch_size")
    if MICRO_BATCH not in capabilities(standing.trainer, tuple(standing.job["stoker"].get("command") or ())):
        yield f"micro_batch: the trainer of this run, {standing.trainer.name}, cannot split a batch"
    elif not isinstance(rows, int) or isinstance(rows, bool) or not 1 <= rows <= batch:
        yield f"micro_batch: expected rows of a batch, a whole number from 1 to {batch} (batch_size)"


def _scheduled_rate(rate: float | None, standing: Standing) -> Iterator[str]:
    """Check that the rate in effect is known; mlx-lm ignores `learning_rate` where there is a schedule."""
    decides = "learning_rate: lr_schedule decides the rate of this run"
    if not standing.continues:
        yield f"{decides}; another one before its first attempt is a new job: stoker submit a copy"
    elif not rate:
        where = f"up to iteration {standing.iteration}, from which it goes on"
        yield f"{decides}, and none was reported {where}: it is not known yet what would change"


def obstacles(standing: Standing, iters: int | None, store: Store) -> Iterator[str]:
    """Yield why a completed run cannot go on; `iters` None: not known, because its value is wrong."""
    run = standing.run
    if run["state"] != State.COMPLETED:
        return
    if standing.trainer.resume == "none":
        yield "it is completed, and its trainer would start from the beginning: stoker submit a copy"
        return
    if iters is not None and iters <= run["iters"]:
        yield f"it has reached its last iteration ({run['iters']}); raise iters"
    if standing.checkpoint is None:
        yield f"no checkpoint of it is left, so it cannot go on from iteration {run['iteration']}: stoker submit a copy"
    if owner := adapter_owner(store, run["adapter_key"], besides=run["run_id"]):
        yield f"its adapter_path belongs to the run {owner}, which has not ended"
