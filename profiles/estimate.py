"""How much room a run needs on disk. Estimates, from what is known before the model is loaded."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from stoker.profiles.facts import ModelFacts
from stoker.profiles.job import Job
from stoker.profiles.resolve import Resolved, checkpoint_keep

_STATE = 3  # weights and Adam's two moments; other optimizers need less
_LORA_BYTES = 4  # mlx-lm makes adapters in float32
_LAYER = re.compile(r"\.layers\.(\d+)\.(.+)\.weight$")
_PACKED_BITS = 32  # quantized weights are stored in words of 32 bits


@dataclass(frozen=True, slots=True)
class DiskNeed:
    """Bytes on disk while a run lasts.

    Attributes:
        checkpoint: one checkpoint of Stoker's.
        keep: checkpoints kept; one more is there while the next is written.
        weights: one file of trained weights.
        saves: such files in adapter_path: one per save_every, and the final one. mlx-lm never removes any.
    """

    checkpoint: int
    keep: int
    weights: int
    saves: int

    @property
    def checkpoints_total(self) -> int:
        """Where checkpoints go, at the most."""
        return self.checkpoint * (self.keep + 1)

    @property
    def adapter_total(self) -> int:
        """Below adapter_path, at the end."""
        return self.weights * self.saves


def disk_need(job: Job, resolved: Resolved, model: ModelFacts | None) -> DiskNeed | None:
    """Return what a run writes; None when that is not known (another trainer, or a model that is not here yet)."""
    if model is None or job.row.checkpoints != "stoker":
        return None
    config = resolved.config
    weights = model.size_bytes if config["fine_tune_type"] == "full" else lora_bytes(config, model)
    checkpoint = weights * _STATE
    saves = int(config["iters"]) // int(config["save_every"]) + 1
    return DiskNeed(checkpoint, checkpoint_keep(job, checkpoint), weights, saves)


def lora_bytes(config: Mapping[str, Any], model: ModelFacts) -> int:
    """Return the size of a LoRA or DoRA adapter: rank x (rows + columns) for each matrix that gets one."""
    parameters = config.get("lora_parameters") or {}
    rank, wanted = int(parameters.get("rank") or 8), parameters.get("keys")
    layers, asked = model.num_hidden_layers or 0, int(config.get("num_layers") or 0)
    first = layers - asked if asked > 0 else 0
    packed = _PACKED_BITS / model.bits if model.bits else 1
    sides = 0.0
    for name, (rows, columns) in model.shapes.items():
        match = _LAYER.search(name)
        if match and int(match[1]) >= first and (wanted is None or match[2] in wanted):
            sides += rows + columns * packed
    return int(sides * rank * _LORA_BYTES)
