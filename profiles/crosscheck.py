"""Checks of a job that look at several keys, or at what the interpreter's mlx-lm offers.

Each sees only values of the right type: the others were reported before.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from stoker.profiles.facts import TrainerDefaults
from stoker.profiles.mlx_keys import HubDataset, services
from stoker.profiles.places import is_hub_id
from stoker.profiles.problem import nearest, shown
from stoker.profiles.schema import OVERRIDABLE, StokerKeys, finite_number
from stoker.profiles.trainer_rows import Schedule, TrainerRow
from stoker.profiles.yaml_positions import Path

PLACEHOLDER = re.compile(r"\{([a-z][a-z0-9_]*)\}")
_LORA_KEYS = ("rank", "dropout", "scale", "keys")
_SCHEDULE_KEYS = ("name", "arguments", "warmup", "warmup_init")
_ALPHA = "mlx-lm knows no alpha; its scale is what other programs call alpha / rank"
_SERVICES = ("wandb", "swanlab")  # mlx_lm/tuner/callbacks.py: SUPPORT_CALLBACK
_OPTIMIZERS = ("adam", "adamw", "muon", "sgd", "adafactor")  # when the interpreter could not be asked


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that does not fit.

    Attributes:
        path: of the key.
        message: without the key's name, unless `on_key`.
        on_key: it is the key that is wrong (unknown), not its value.
    """

    path: Path
    message: str
    nearest: str | None = None
    warning: bool = False
    on_key: bool = False


@dataclass(frozen=True, slots=True)
class _Case:
    """A job as far as it is valid: keys with a wrong value are left out, their types were reported already."""

    config: Mapping[str, Any]
    given: frozenset[str]
    keys: StokerKeys
    row: TrainerRow
    defaults: TrainerDefaults

    def value(self, key: str) -> Any:
        """Return what will be in effect, None when that is not known."""
        if key in self.config:
            return self.config[key]
        return None if key in self.given or not self.row.interpreter else self.defaults.config_defaults.get(key)


def run(
    config: Mapping[str, Any],
    keys: StokerKeys,
    row: TrainerRow,
    defaults: TrainerDefaults,
    *,
    bad: frozenset[str],
    meant: frozenset[str],
) -> Iterator[Finding]:
    """Yield everything that does not fit.

    Args:
        config: the trainer's keys as submitted.
        keys: Stoker's own keys.
        row: the trainer's row; another one than `keys.trainer` when that is unknown.
        defaults: of the interpreter that trains.
        bad: keys whose values have a wrong type.
        meant: keys that stand there misspelt.
    """
    valid = {key: value for key, value in config.items() if key not in bad}
    case = _Case(valid, frozenset(config) | meant, keys, row, defaults)
    for check in (_optimizer, _lora, _schedule, _hub, _report_to, _steps, _distributed, _allow):
        yield from check(case)
    if keys.trainer == row.name:
        for check in (_required, _command, _drill):
            yield from check(case)


def _required(case: _Case) -> Iterator[Finding]:
    for group in case.row.required:
        if not any(key in case.given for key in group):
            others = f" (or {', '.join(group[1:])})" if group[1:] else ""
            yield Finding((), f"{group[0]}{others} is missing: {case.row.name} needs it", on_key=True)


def _optimizer(case: _Case) -> Iterator[Finding]:
    offered = case.defaults.config_defaults.get("optimizer_config")
    known = tuple(offered) if isinstance(offered, dict) and offered else _OPTIMIZERS
    name = case.config.get("optimizer")
    if name is not None and name.lower() not in known:
        yield Finding(("optimizer",), f"expected one of {', '.join(known)}, got {shown(name)}", nearest(name, known))
    for name, arguments in case.config.get("optimizer_config", {}).items():
        path = ("optimizer_config", name)
        if name not in known and (close := nearest(name, known)):
            yield Finding(path, f"optimizer_config.{name[:40]}: unknown optimizer", close, on_key=True)
        elif arguments is None:
            yield Finding(path, "expected a mapping of the optimizer's arguments, got null: write {}")


def _lora(case: _Case) -> Iterator[Finding]:
    given = case.config.get("lora_parameters")
    if given is None:
        return
    for key in given:
        if key not in _LORA_KEYS:
            close = nearest(key, _LORA_KEYS, {"r": "rank", "lora_rank": "rank", "target_modules": "keys"})
            text = (
                _ALPHA if key in {"alpha", "lora_alpha"} else "mlx-lm does not use it" if not close else "unknown key"
            )
            yield Finding(
                ("lora_parameters", key), f"lora_parameters.{key[:40]}: {text}", close, warning=not close, on_key=True
            )
    if case.value("fine_tune_type") == "full":
        return
    for key in ("rank", "scale", "dropout"):
        if given.get(key) is None:
            hint = f" ({_ALPHA})" if key == "scale" and ("alpha" in given or "lora_alpha" in given) else ""
            default = (case.defaults.config_defaults.get("lora_parameters") or {}).get(key)
            write = f": write {key}: {shown(default)}" if default is not None else ""
            yield Finding(("lora_parameters",), f"{key} is missing, and mlx-lm fills nothing in here{write}{hint}")


def _schedule(case: _Case) -> Iterator[Finding]:
    given = case.config.get("lr_schedule")
    if given is None:
        return
    for key in given:
        if key not in _SCHEDULE_KEYS:
            close = nearest(key, _SCHEDULE_KEYS, {"args": "arguments", "warmup_steps": "warmup"})
            text = "unknown key" if close else "mlx-lm does not use it"
            path = ("lr_schedule", key)
            yield Finding(path, f"lr_schedule.{key[:40]}: {text}", close, warning=not close, on_key=True)
    known = {*case.row.schedules, *case.defaults.schedules}
    name = given["name"]
    if name not in known:
        certain = bool(case.defaults.schedules)  # the interpreter was asked
        message = f"expected one of {', '.join(sorted(known))}, got {shown(name)}"
        close = nearest(name, known)
        if known and (certain or close):
            yield Finding(("lr_schedule", "name"), message, close)
    elif name in case.row.schedules:
        yield from _arguments(name, given["arguments"], case.row.schedules[name])


def _arguments(name: str, arguments: list[Any], schedule: Schedule) -> Iterator[Finding]:
    path = ("lr_schedule", "arguments")
    signature = f"{name}({', '.join(schedule.arguments)})"
    if not schedule.required <= len(arguments) <= len(schedule.arguments):
        wanted = (
            str(schedule.required)
            if schedule.required == len(schedule.arguments)
            else f"{schedule.required} to {len(schedule.arguments)}"
        )
        yield Finding(path, f"expected {wanted} arguments, {signature}, got {len(arguments)}")
    for n, (argument, value) in enumerate(zip(schedule.arguments, arguments, strict=False)):
        if argument in schedule.steps and value < 1:
            yield Finding((*path, n), f"expected 1 or more for {argument} of {signature}, got {shown(value)}")
        elif value < 0:
            yield Finding((*path, n), f"expected 0 or more for {argument} of {signature}, got {shown(value)}")


def _report_to(case: _Case) -> Iterator[Finding]:
    for name in services(case.config.get("report_to", "")):
        if name not in _SERVICES:
            known = ", ".join(_SERVICES)
            message = f"mlx-lm cannot report to {name[:40]}: expected one of {known}, or both with a comma"
            yield Finding(("report_to",), message, nearest(name, _SERVICES))


def _hub(case: _Case) -> Iterator[Finding]:
    """Data of the hub needs the package `datasets`; a folder that was taken for an id of the hub ends here too."""
    source = case.config.get("hf_dataset")
    for key in _sub_keys(source):
        if key not in HubDataset.model_fields:
            yield Finding(("hf_dataset",), f"mlx-lm does not use {key[:40]} here", warning=True)
    if not case.row.interpreter or not case.defaults.versions.get("mlx_lm") or "datasets" in case.defaults.packages:
        return
    install = f"{case.defaults.python} -m pip install datasets"
    data = case.config.get("data")
    if source:
        yield Finding(("hf_dataset",), f"data of the Hugging Face hub needs the package datasets: {install}")
    elif isinstance(data, str) and is_hub_id(data):
        yield Finding(
            ("data",),
            f'"{data}" is no folder here and reads as a data set of the Hugging Face hub, which needs the package'
            f" datasets ({install}); if it is a folder, use `stoker submit FILE`, write"
            " `stoker: {base_dir: /the/folder}`, or give the full path",
        )


def _sub_keys(value: Any) -> list[str]:
    sources = value if isinstance(value, list) else [value]
    return [key for source in sources if isinstance(source, dict) for key in source]


def _steps(case: _Case) -> Iterator[Finding]:
    iters, accumulated = case.value("iters"), case.value("grad_accumulation_steps")
    if iters and accumulated and accumulated > iters and "grad_accumulation_steps" in case.config:
        yield Finding(
            ("grad_accumulation_steps",),
            f"{accumulated} is more than iters ({iters}): the optimizer would never make a step",
        )
    if case.config.get("val_batches") == 0:
        yield Finding(("val_batches",), "0: no validation; mlx-lm reports its loss as nan", warning=True)


def _distributed(case: _Case) -> Iterator[Finding]:
    workers, batch = case.keys.distributed and case.keys.distributed.workers, case.value("batch_size")
    if workers and batch and batch % workers:
        path: Path = ("batch_size",) if "batch_size" in case.config else ("stoker", "distributed", "workers")
        yield Finding(path, f"a batch of {batch} cannot be divided among {workers} workers")


def _command(case: _Case) -> Iterator[Finding]:
    command = case.keys.command
    if not case.row.takes_command:
        if command:
            yield Finding(
                ("stoker", "command"), f"belongs to `trainer: command`; this job's trainer is {case.row.name}"
            )
        return
    if not command:
        yield Finding(("stoker",), f"command is missing: `trainer: {case.row.name}` needs a list of words")
        return
    free = {*case.row.keys, *(case.row.placeholders or {})}
    for n, word in enumerate(command):
        for name in PLACEHOLDER.findall(word):
            path = ("stoker", "command", n)
            close = nearest(name, free)
            if name in free:
                if name in case.row.keys and name not in case.given and name != "adapter_path":
                    yield Finding(path, f"uses {{{name}}}, but the job does not say {name}")
            elif close:
                yield Finding(path, f"unknown placeholder {{{name[:40]}}}", f"{{{close}}}")
            else:
                yield Finding(path, f"{{{name[:40]}}} is no placeholder, passed on as it is", warning=True)


def _drill(case: _Case) -> Iterator[Finding]:
    iters = case.value("iters")
    for n, fault in enumerate(case.keys.drill):
        if fault.at is not None and finite_number(iters) and fault.at > iters:
            yield Finding(("stoker", "drill", n, "at"), f"{fault.at} is after the last iteration ({iters})")
    if case.keys.drill and case.row.checkpoints != "stoker":
        yield Finding(("stoker", "drill"), f"faults are injected by Stoker's own trainer, not by {case.row.name}")


def _allow(case: _Case) -> Iterator[Finding]:
    for n, name in enumerate(case.keys.preflight.allow):
        if name not in OVERRIDABLE:
            message = f"no check of that name can be overridden; these can: {', '.join(OVERRIDABLE)}"
            yield Finding(("stoker", "preflight", "allow", n), message, nearest(name, OVERRIDABLE))
