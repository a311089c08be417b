"""How much room a run needs on disk. Estimates, from what is known before the model is loaded."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from stoker.profiles.facts import ModelFacts
from stoker.profiles.job import Job
from stoker.profiles.resolve import Resolved, adjustment, checkpoint_keep

# What an optimizer keeps for each trained weight, in the weight's own type (mlx.optimizers, init_single of each; SGD
# makes its momentum even where it is 0). Adafactor keeps a number for each row and column, and a moment with beta_1.
_MOMENTS = {"adam": 2, "adamw": 2, "sgd": 1, "muon": 1, "adafactor": 0}
_MOST_MOMENTS = 2  # of an optimizer that is not known here
_BESIDE_KEPT = 2  # one from before a suspected fault, and the one that is being written
_LORA_BYTES = 4  # mlx-lm makes adapters in float32
_LORA_RANK = 8  # mlx-lm's default
_LAYER = re.compile(r"\.layers\.(\d+)\.(.+)\.weight$")
_PACKED_BITS = 32  # quantized weights are stored in words of 32 bits


@dataclass(frozen=True, slots=True)
class DiskNeed:
    """Bytes on disk while a run lasts.

    Attributes:
        checkpoint: one checkpoint of Stoker's: weights and the optimizer's state.
        keep: the newest ones, which are kept; beside them there may be one from before a suspected fault and the one
            that is being written.
        weights: one file of trained weights.
        saves: such files in adapter_path: one per save_every, and the final one. mlx-lm never removes any.
    """

    checkpoint: int
    keep: int
    weights: int
    saves: int

    @property
    def checkpoints(self) -> int:
        """Checkpoints on the disk at the same time, at the most."""
        return self.keep + _BESIDE_KEPT

    @property
    def checkpoints_total(self) -> int:
        """Where checkpoints go, at the most."""
        return self.checkpoint * self.checkpoints

    @property
    def adapter_total(self) -> int:
        """Below adapter_path, at the end."""
        return self.weights * self.saves

    @property
    def adapter_peak(self) -> int:
        """Below adapter_path, at the most: a save is written beside the one that it replaces."""
        return self.adapter_total + (self.weights if self.saves > 1 else 0)


def disk_need(job: Job, resolved: Resolved, model: ModelFacts | None) -> DiskNeed | None:
    """Return what a run writes; None when that is not known (another trainer, or a model that is not here yet)."""
    if model is None or job.row.checkpoints != "stoker":
        return None
    config = resolved.config
    weights = model.size_bytes if config["fine_tune_type"] == "full" else lora_bytes(config, model)
    checkpoint = int(weights * (1 + moments(config)))
    saves = int(config["iters"]) // int(config["save_every"]) + 1
    return DiskNeed(checkpoint, checkpoint_keep(job, checkpoint), weights, saves)


def moments(config: Mapping[str, Any]) -> float:
    """Return the size of the optimizer's state, as a multiple of the trained weights."""
    name = str(config.get("optimizer") or "adam").lower()
    options = config.get("optimizer_config")
    own = options.get(name) if isinstance(options, Mapping) else None
    found = float(_MOMENTS.get(name, _MOST_MOMENTS))
    if name == "adafactor":
        found += isinstance(own, Mapping) and own.get("beta_1") is not None
        if config.get("fine_tune_type") != "full":  # of matrices this thin, rows and columns are no small part
            found += 1 / _rank(config)
    return found


def fit_keep(job: Job, resolved: Resolved, need: DiskNeed, room: int, why: str) -> tuple[Resolved, DiskNeed]:
    """Keep fewer checkpoints, but one, where the job leaves that open and no more of them fit into `room` bytes.

    `why` is the reason that stands in the record.
    """
    if job.stoker.checkpoint.keep is not None or need.checkpoints_total <= room:
        return resolved, need
    fewer = replace(need, keep=max(1, min(need.keep, room // need.checkpoint - _BESIDE_KEPT)))
    if fewer.keep == need.keep:
        return resolved, need
    change = adjustment("stoker.checkpoint.keep", need.keep, fewer.keep, why)
    return replace(resolved, adjustments=(*resolved.adjustments, change)), fewer


def budget_interval(need: DiskNeed, write_per_s: float | None) -> float | None:
    """Return the seconds from one checkpoint to the next that the write budget asks for; None without a budget."""
    return need.checkpoint / write_per_s if write_per_s else None


def lora_bytes(config: Mapping[str, Any], model: ModelFacts) -> int:
    """Return the size of a LoRA or DoRA adapter: rank x (rows + columns) for each matrix that gets one."""
    rank, wanted = _rank(config), (config.get("lora_parameters") or {}).get("keys")
    layers, asked = model.num_hidden_layers or 0, int(config.get("num_layers") or 0)
    first = layers - asked if asked > 0 else 0
    packed = _PACKED_BITS / model.bits if model.bits else 1
    sides = 0.0
    for name, (rows, columns) in model.shapes.items():
        match = _LAYER.search(name)
        if match and int(match[1]) >= first and (wanted is None or match[2] in wanted):
            sides += rows + columns * packed
    return int(sides * rank * _LORA_BYTES)


def _rank(config: Mapping[str, Any]) -> int:
    return int((config.get("lora_parameters") or {}).get("rank") or _LORA_RANK)
