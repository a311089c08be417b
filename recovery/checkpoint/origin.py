"""Where a checkpoint or an adapter comes from: the configuration it was trained with, and the model it began as."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from stoker.recovery.checkpoint.manifest import MANIFEST, parse_name
from stoker.recovery.checkpoint.reference import Model, ModelError, model_fingerprint, read_model

ADAPTER_CONFIG = "adapter_config.json"
_INPUTS = "inputs.json"
_ATTEMPTS = "attempts"
_NOT_COMPARED = "names, shapes and types were not compared"


@dataclass(frozen=True, slots=True)
class Origin:
    """What is known; nothing of it need be.

    Attributes:
        config: keys of mlx-lm's configuration; empty when there is none.
        source: the file that says so, for sentences.
        model: headers of the base model.
        note: why there is no model although one is named.
    """

    config: Mapping[str, Any] = field(default_factory=dict)
    source: str = ""
    model: Model | None = None
    note: str = ""

    @property
    def method(self) -> str | None:
        """`lora`, `dora` or `full`; None without a configuration."""
        if not self.config:
            return None
        default = "dora" if self.config.get("use_dora") else "lora"  # the key of mlx-lm before 0.20
        return str(self.config.get("fine_tune_type") or default)

    @property
    def rank(self) -> int | None:
        """The rank of the LoRA factors that is asked for."""
        parameters = self.config.get("lora_parameters")
        return _count(parameters.get("rank")) if isinstance(parameters, dict) else None

    @property
    def num_layers(self) -> int | None:
        """Number of the topmost blocks that train; 0 stands for all."""
        value = self.config.get("num_layers")
        return max(value, 0) if isinstance(value, int) and not isinstance(value, bool) else None

    def learns(self, steps: int) -> bool:
        """Whether one of so many optimizer updates had a learning rate above zero; a warm-up's first one has none."""
        schedule = self.config.get("lr_schedule")
        if isinstance(schedule, dict):
            return steps > 1
        try:
            return float(self.config.get("learning_rate", 1e-5)) > 0
        except (TypeError, ValueError):
            return False

    def or_model_of(self, run: "Origin") -> "Origin":
        """The same with the run's model, if it is the one that is named here: a run knows where a hub's model lies."""
        named = self.config.get("model")
        if self.model is not None or named is None or named != run.config.get("model"):
            return self
        return Origin(self.config, self.source, run.model, run.note)


def origin_of(path: Path) -> Origin:
    """Of a checkpoint folder, an adapter folder, or a file in one of them. Never raises for what is on the disk."""
    folder = path if path.is_dir() else path.parent
    named = parse_name(folder.name)
    if named is None and not (folder / MANIFEST).exists():
        return _of_adapter(folder)
    # checkpoints/NAME, quarantine/NAME and staging/NAME lie two levels below the run, superseded/aN/NAME three.
    run = next((above for above in folder.absolute().parents[1:3] if is_run(above)), None)
    return of_run(run, named[1] if named else None) if run else Origin()


def is_run(folder: Path) -> bool:
    """Whether this is the folder of a run."""
    return (folder / _ATTEMPTS).is_dir() or bool(_frozen(folder))


def of_run(run: Path, attempt: int | None = None) -> Origin:
    """Of a run's folder; `attempt` None = the newest one."""
    attempts = run / _ATTEMPTS
    try:
        newest = max((int(each.name) for each in attempts.iterdir() if each.name.isdecimal()), default=1)
    except OSError:
        newest = 1
    path = attempts / str(attempt or newest) / "config.yaml"
    return _with_model(_yaml(path), str(path.relative_to(run)), _frozen(run))


def with_model(origin: Origin, folder: Path) -> Origin:
    """The same, but from this model."""
    model, note = _read(folder)
    return Origin(origin.config, origin.source, model, note)


def _of_adapter(folder: Path) -> Origin:
    config = _json(folder / ADAPTER_CONFIG)
    return _with_model(config, ADAPTER_CONFIG, _frozen(folder.absolute().parent))


def _with_model(config: Mapping[str, Any], source: str, frozen: Mapping[str, Any]) -> Origin:
    """`frozen` is inputs.json: it names the folder that a model of the hub was loaded from."""
    named = frozen.get("model") or config.get("model")
    if not isinstance(named, str):
        return Origin(config, source)
    model, note = _read(Path(named).expanduser(), frozen.get("fingerprint"))
    return Origin(config, source, model, note)


def _read(folder: Path, fingerprint: str | None = None) -> tuple[Model | None, str]:
    try:
        if not folder.is_dir():
            return None, f"the base model is not here ({folder}): {_NOT_COMPARED}"
        if fingerprint is not None and model_fingerprint(folder) != fingerprint:
            return None, f"the base model {folder} is not the one that the run began with: {_NOT_COMPARED}"
        return read_model(folder), ""
    except (OSError, ModelError) as error:
        return None, f"the base model cannot be read ({error}): {_NOT_COMPARED}"


def _frozen(run: Path) -> dict[str, Any]:
    """The inputs that the run's first load wrote down; empty when this is no run, or nothing was loaded yet."""
    inputs = _json(run / _INPUTS)
    return inputs if {"model", "fingerprint"} <= inputs.keys() else {}


def _json(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}


def _yaml(path: Path) -> dict[str, Any]:
    import yaml

    try:
        value = yaml.safe_load(path.read_bytes())
    except (OSError, ValueError, RecursionError, yaml.YAMLError):  # ValueError: a date that there is not
        return {}
    return value if isinstance(value, dict) else {}


def _count(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else None
