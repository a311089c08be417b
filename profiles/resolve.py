"""A job -> the complete configuration of its trainer, with where each value comes from.

The submitted values are never modified. What the job leaves out is mlx-lm's default, and where that default cannot be
meant (the layers of a full fine-tune, the place of the adapter) Stoker fills in a value and says so.
"""

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from stoker.profiles.crosscheck import PLACEHOLDER
from stoker.profiles.facts import ModelFacts, TrainerDefaults
from stoker.profiles.job import Job

_RULE_ITERATIONS = 1000  # checkpoints at most this far apart ...
_RULE_PARTS = 20  # ... and at least so many in a run
_AUTO_SECONDS = 900.0
_KEEP = 3
_KEEP_LARGE = 2
_LARGE_BYTES = 20_000_000_000


@dataclass(frozen=True, slots=True)
class Resolved:
    """What a trainer is started with.

    Attributes:
        config: a complete stock configuration: with mlx-lm every key of CONFIG_DEFAULTS, `train` true, `test` false.
        provenance: where the value of each key comes from, in words; keys as in `config`, and `test`.
        adjustments: what was changed of the submitted values: {field, from, to, reason, preserves}.
        test: the job wants a test after the final adapter is committed. It is no part of `config`: a missing test set
            would make mlx-lm refuse to train.
        every: how often a checkpoint is committed; None when the trainer writes its own.
    """

    config: dict[str, Any]
    provenance: dict[str, str]
    adjustments: tuple[dict[str, Any], ...]
    test: bool
    every: "Cadence | None"


@dataclass(frozen=True, slots=True)
class Cadence:
    """A checkpoint is committed after so many iterations or seconds, whichever comes first; None = does not count.

    With `auto` both are the most that may lie between two: the trainer comes sooner where Young's formula says so, and
    later where the write budget or one per cent of the time ask for it.
    """

    iterations: int | None
    seconds: float | None
    auto: bool = False

    def as_json(self) -> dict[str, Any]:
        """Return the shape of launch.json."""
        return {"iterations": self.iterations, "seconds": self.seconds, "auto": self.auto}


def resolve(
    job: Job, defaults: TrainerDefaults, model: ModelFacts | None, *, adapter_path: str | None = None
) -> Resolved:
    """Complete a job's configuration.

    Args:
        job: a valid job.
        defaults: of the interpreter that trains.
        model: what is known of the model; None when it is not on this machine yet.
        adapter_path: the run's own folder for the final adapter, used when the job names none.
    """
    adjustments: list[dict[str, Any]] = []
    if job.row.interpreter is None:
        config, provenance = dict(job.config), dict.fromkeys(job.config, "job")
    else:
        config = copy.deepcopy(dict(defaults.config_defaults))
        provenance = dict.fromkeys(config, f"{defaults.label} default")
        config |= copy.deepcopy(job.config)
        provenance |= dict.fromkeys(job.config, "job")
        config.pop("config", None)
        provenance.pop("config", None)
        config["train"], provenance["train"] = True, "stoker: a job is always trained"
        _layers(config, provenance, model, submitted="num_layers" in job.config)
    if "adapter_path" not in job.config and adapter_path is not None:
        config["adapter_path"], provenance["adapter_path"] = adapter_path, "stoker: the run's own folder"
    test = bool(config.get("test"))
    if "test" in config:
        config["test"] = False
        if test:
            provenance["test"] = f"{provenance['test']}; stoker: runs after the final adapter is committed"
    every = None
    if job.row.checkpoints == "stoker":
        every = checkpoint_every(job, int(config["iters"]))
        adjustments += _cadence_adjustment(job, every)
    else:
        _lower_save_every(config, provenance, adjustments)
    return Resolved(config, provenance, tuple(adjustments), test, every)


def rule(iters: int) -> int:
    """Return how many iterations may lie between two checkpoints: min(1000, iters / 20)."""
    return min(_RULE_ITERATIONS, max(1, iters // _RULE_PARTS))


def checkpoint_every(job: Job, iters: int) -> Cadence:
    """Return when checkpoints are committed: as the job says, but never further apart than the rule allows."""
    wanted = job.stoker.checkpoint.every
    if wanted.iterations is not None:
        return Cadence(min(wanted.iterations, rule(iters)), None)
    if wanted.seconds is not None:
        return Cadence(rule(iters), wanted.seconds)
    return Cadence(rule(iters), _AUTO_SECONDS, auto=True)


def checkpoint_keep(job: Job, checkpoint_bytes: int | None) -> int:
    """Return how many checkpoints are kept: as the job says, else 3, of large ones (over 20 GB) 2."""
    if job.stoker.checkpoint.keep is not None:
        return job.stoker.checkpoint.keep
    return _KEEP_LARGE if (checkpoint_bytes or 0) > _LARGE_BYTES else _KEEP


def layers_problem(config: Mapping[str, Any], model: ModelFacts) -> str | None:
    """Return why `num_layers` does not fit the model, if it does not."""
    asked, actual = config.get("num_layers"), model.num_hidden_layers
    if not isinstance(asked, int) or actual is None or asked <= 0 or asked == actual:
        return None  # mlx-lm trains all layers for 0 and below
    if asked > actual:
        return f"num_layers is {asked}, but the model has {actual} layers: mlx-lm refuses that"
    if config.get("fine_tune_type") != "full":
        return None
    return f"full fine-tuning of {asked} of the model's {actual} layers: only the top layers would train"


def fill(command: tuple[str, ...], values: Mapping[str, Any]) -> tuple[str, ...]:
    """Return a command with its {placeholders} replaced; a name without a value stays as it stands."""

    def one(word: str) -> str:
        return PLACEHOLDER.sub(lambda match: _text(values.get(match[1], match[0])), word)

    return tuple(one(word) for word in command)


def _text(value: Any) -> str:
    return ("true" if value else "false") if isinstance(value, bool) else str(value)


def _layers(config: dict[str, Any], provenance: dict[str, str], model: ModelFacts | None, *, submitted: bool) -> None:
    """Fill in num_layers where mlx-lm's default of 16 cannot be meant."""
    if submitted:
        return
    actual = model.num_hidden_layers if model else None
    if config.get("fine_tune_type") == "full":
        if actual is not None:
            config["num_layers"] = actual
            provenance["num_layers"] = f"stoker: all {actual} layers of config.json, as full fine-tuning needs"
        else:
            config["num_layers"] = -1
            provenance["num_layers"] = "stoker: all layers, as full fine-tuning needs (config.json is not here yet)"
    elif actual is not None and config.get("num_layers", 0) > actual:
        provenance["num_layers"] = f"stoker: all {actual} layers of config.json (the default is {config['num_layers']})"
        config["num_layers"] = actual


def _cadence_adjustment(job: Job, every: Cadence) -> list[dict[str, Any]]:
    asked = job.stoker.checkpoint.every.iterations
    if asked is None or asked == every.iterations:
        return []
    reason = "a crash must not cost more than min(1000, iters / 20) iterations"
    return [adjustment("stoker.checkpoint.every", asked, every.iterations, reason)]


def _lower_save_every(config: dict[str, Any], provenance: dict[str, str], adjustments: list[dict[str, Any]]) -> None:
    """Bind the user's own saves where they are all that a crash leaves."""
    asked, iters = config.get("save_every"), config.get("iters")
    if not isinstance(asked, int) or not isinstance(iters, int) or asked <= rule(iters):
        return
    reason = (
        "this trainer has no other checkpoints, and a crash must not cost more than min(1000, iters / 20) iterations"
    )
    config["save_every"] = rule(iters)
    provenance["save_every"] = f"stoker: lowered from {asked}"
    adjustments.append(adjustment("save_every", asked, rule(iters), reason))


def adjustment(field: str, old: Any, new: Any, reason: str) -> dict[str, Any]:
    """Return the record of a change that touches nothing of what is trained."""
    preserves = ["effective_batch", "data_order", "schedule", "iterations"]
    return {"field": field, "from": old, "to": new, "reason": reason, "preserves": preserves, "lossy": False}
