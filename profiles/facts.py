"""What is known about the interpreter that trains and about the model, found out by others and handed in."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class TrainerDefaults:
    """The training interpreter, as far as a job needs to know it.

    Attributes:
        config_defaults: mlx-lm's CONFIG_DEFAULTS there; empty when there is no mlx-lm.
        versions: of `python`, `mlx`, `mlx_lm`, `numpy`; None = not installed.
        python: absolute path of the interpreter, links not followed (a venv's python is a link).
        packages: which of the optional packages (`datasets`, `wandb`, `swanlab`) can be imported.
        schedules: names of mlx's learning rate schedules there; empty = not known.
        backends: distributions that bring mlx's backend (`mlx-cpu`, `mlx-metal`, `mlx-cuda-13`).
    """

    config_defaults: Mapping[str, Any]
    versions: Mapping[str, str | None]
    python: str
    packages: frozenset[str] = frozenset()
    schedules: tuple[str, ...] = ()
    backends: tuple[str, ...] = ()

    @property
    def label(self) -> str:
        """`mlx-lm 0.32.2`, for messages and provenance."""
        version = self.versions.get("mlx_lm")
        return f"mlx-lm {version}" if version else "mlx-lm"


NO_DEFAULTS = TrainerDefaults({}, {}, "")


@dataclass(frozen=True, slots=True)
class ModelFacts:
    """A model folder, read from config.json and the headers of its safetensors files.

    Attributes:
        path: the folder.
        model_type: as in config.json.
        num_hidden_layers: None when config.json does not say.
        size_bytes: of all weights.
        parameters: elements of all weights; quantized ones count packed.
        dtype: the one that holds most bytes, in safetensors' words (`BF16`).
        tied: the output head is the embedding.
        bits: of a quantized model; None = not quantized.
        shapes: of the two-dimensional weights, by name, for estimates of LoRA adapters.
    """

    path: str
    model_type: str
    num_hidden_layers: int | None
    size_bytes: int
    parameters: int
    dtype: str
    tied: bool
    bits: int | None = None
    shapes: Mapping[str, tuple[int, int]] = field(default_factory=dict)
