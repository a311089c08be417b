"""The single checks of a job against this machine. Each yields what it found; none raises for what a job names."""

import os
import shutil
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from stoker.profiles.estimate import DiskNeed, fit_keep
from stoker.profiles.facts import ModelFacts, TrainerDefaults
from stoker.profiles.job import Job
from stoker.profiles.mlx_keys import services
from stoker.profiles.places import is_local
from stoker.profiles.resolve import Resolved, layers_problem
from stoker.recovery.checkpoint.safetensors import read_layout
from stoker.recovery.policy import load_policies
from stoker.recovery.policy_examples import failing_examples
from stoker.recovery.rules.load import load_rules
from stoker.supervisor.checks import Check, explain_access, in_bytes
from stoker.supervisor.data_folder import check_data
from stoker.supervisor.host.disk import free_bytes
from stoker.supervisor.model_folder import cached_snapshot, read_model


def check_model(
    job: Job, environment: Mapping[str, str], user_home: Path
) -> tuple[ModelFacts | None, tuple[Check, ...]]:
    """Return what is known of the model, and the checks `model` and `weights`."""
    name = job.config.get("model")
    if job.row.interpreter is None or not isinstance(name, str):
        return None, ()
    if is_local(name):
        return read_model(Path(name))
    cached = cached_snapshot(name, environment, user_home)
    if cached is None:
        detail = f"{name} is not on this machine: it is downloaded when the trainer starts"
        return None, (Check("model", "warn", detail, "a folder is written with its full path", ("model",)),)
    facts, checks = read_model(cached)
    return facts, tuple(check for check in checks if check.verdict == "pass")  # mlx-lm downloads what is missing


def check_interpreter(job: Job, defaults: TrainerDefaults) -> Iterator[Check]:
    """Check the versions of Python, mlx and mlx-lm."""
    needs = job.row.interpreter
    if needs is None:
        return
    key = ("stoker", "python")
    versions = ", ".join(
        f"{name.replace('_', '-')} {version}" for name, version in defaults.versions.items() if version
    )
    if _older(defaults.versions.get("python"), needs.python):
        detail, fix = f"{defaults.python} is Python {defaults.versions['python']}", f"Python {needs.python} or newer"
        yield Check("interpreter", "fail", detail, f"name another: {fix}", key)
    elif not defaults.backends and sys.platform == "linux":
        fix = f"{defaults.python} -m pip install 'mlx[cpu]' (with an NVIDIA GPU: 'mlx[cuda13]')"
        yield Check("interpreter", "fail", f"mlx of {defaults.python} has no backend", fix, key)
    else:
        yield Check("interpreter", "pass", f"{defaults.python}: {versions}", key=key)
    for name, oldest in needs.modules.items():
        if oldest and _older(defaults.versions.get(name), oldest):
            label = name.replace("_", "-")
            detail = f"{label} {defaults.versions[name]} is older than {oldest}, the oldest that is supported"
            fix = f"{defaults.python} -m pip install --upgrade {label}"
            yield Check("trainer-version", "fail", detail, fix, key)


def _older(version: str | None, oldest: str) -> bool:
    return version is not None and _numbers(version) < _numbers(oldest)


def _numbers(version: str) -> list[int]:
    """Return the leading numbers of a version; `0.32.0.dev1` counts as 0.32.0."""
    numbers = []
    for part in version.split("."):
        if not part.isdecimal():
            break
        numbers.append(int(part))
    return numbers


def check_data_source(job: Job, resolved: Resolved) -> tuple[Check, ...]:
    """Check a local data folder; data of the hub is mlx-lm's own affair."""
    name = resolved.config.get("data")
    if job.row.interpreter is None or resolved.config.get("hf_dataset") or not isinstance(name, str):
        return ()
    if not is_local(name):
        detail = f"{name} is read from the Hugging Face hub, or its cache, when the trainer starts"
        return (Check("data", "warn", detail, "a folder is written with its full path", ("data",)),)
    return check_data(Path(name), resolved.config, test=resolved.test)


def check_quantized(resolved: Resolved, model: ModelFacts | None) -> Iterator[Check]:
    """Check that full fine-tuning has weights that it can change."""
    if model and model.bits and resolved.config.get("fine_tune_type") == "full":
        detail = f"the model is quantized ({model.bits}-bit): full fine-tuning cannot change quantized weights"
        yield Check("quantized-full", "fail", detail, "take the original model, or fine_tune_type: lora", ("model",))


def check_layers(resolved: Resolved, model: ModelFacts | None) -> Iterator[Check]:
    """Check num_layers against the model."""
    if model is None or "num_layers" not in resolved.config:
        return
    key = ("num_layers",)
    asked = resolved.config["num_layers"]
    if problem := layers_problem(resolved.config, model):
        fix = f"leave num_layers out, or write num_layers: {model.num_hidden_layers}"
        # Training the top layers only can be meant; more layers than there are cannot.
        name = "num-layers" if asked <= (model.num_hidden_layers or 0) else "too-many-layers"
        yield Check(name, "fail", problem, fix, key)
    elif model.num_hidden_layers is None:
        yield Check("num-layers", "warn", "config.json does not say how many layers the model has", key=key)
    else:
        trained = "all" if asked <= 0 or asked == model.num_hidden_layers else str(asked)
        yield Check("num-layers", "pass", f"{trained} of {model.num_hidden_layers} layers", key=key)


def check_reports(resolved: Resolved, defaults: TrainerDefaults) -> Iterator[Check]:
    """Check that the services of report_to can be imported."""
    wanted = services(resolved.config.get("report_to") or "")
    missing = [name for name in wanted if name not in defaults.packages]
    if missing:
        fix = f"{defaults.python} -m pip install {' '.join(missing)}"
        detail = f"{', '.join(missing)} cannot be imported by {defaults.python}"
        yield Check("report-to", "fail", detail, fix, ("report_to",))
    elif wanted:
        yield Check("report-to", "pass", ", ".join(wanted), key=("report_to",))


def check_files(job: Job, resolved: Resolved) -> Iterator[Check]:
    """Check the single files that a job names: readable, and the adapter to start from whole."""
    keys = job.stoker
    named: list[tuple[tuple[str, ...], Any]] = [
        (("resume_adapter_file",), resolved.config.get("resume_adapter_file")),
        (("stoker", "recovery", "policies"), keys.recovery.policies),
        (("stoker", "recovery", "rules"), keys.recovery.rules),
        (("stoker", "distributed", "hostfile"), keys.distributed and keys.distributed.hostfile),
    ]
    for path, text in named:
        if not text:
            continue
        try:
            with Path(text).open("rb") as file:
                size = os.fstat(file.fileno()).st_size
                problems = (
                    read_layout(file, size).problems if path == ("resume_adapter_file",) else _rows_of(path, text)
                )
        except OSError as error:
            yield Check("files", "fail", *explain_access(error, Path(text)), path)
        else:
            verdict = Check("files", "pass", f"{path[-1]}: {text}", key=path)
            yield replace(verdict, verdict="fail", detail=f"{text}: {problems[0]}") if problems else verdict


def _rows_of(path: tuple[str, ...], text: str) -> tuple[str, ...]:
    """Return what is wrong with a job's own policies or rules: they must not fail in the night they are needed."""
    try:
        if path[-1] == "policies":
            return tuple(failing_examples(load_policies(Path(text))))
        if path[-1] == "rules":
            load_rules(Path(text))
    except ValueError as error:
        return tuple(str(error).splitlines())
    return ()


def check_command(job: Job, environment: Mapping[str, str]) -> Iterator[Check]:
    """Check that programs are there; notify too, because it would be missed in the worst moment."""
    keys = job.stoker
    search = environment.get("PATH", os.defpath)
    for path, argv in (
        (("stoker", "command"), keys.command),
        (("stoker", "notify"), keys.notify and keys.notify.command),
    ):
        if not argv or "{" in argv[0]:
            continue
        if shutil.which(argv[0], path=search):
            yield Check("command", "pass", argv[0], key=path)
        elif "/" in argv[0] and os.path.isfile(argv[0]):  # noqa: PTH113 - never raises
            yield Check("command", "fail", f"{argv[0]} may not be executed", f"chmod +x {argv[0]}", path)
        else:
            where = "" if "/" in argv[0] else " on PATH"
            yield Check("command", "fail", f"there is no program {argv[0]}{where}", "give its full path", path)


def check_adapter(resolved: Resolved) -> Iterator[Check]:
    """Check that the final adapter can be written."""
    text = resolved.config.get("adapter_path")
    if not isinstance(text, str):
        return
    key, path = ("adapter_path",), Path(text)
    there = next((parent for parent in (path, *path.parents) if os.path.lexists(parent)), Path("/"))
    if not os.path.isdir(there):  # noqa: PTH112 - never raises
        yield Check("adapter-path", "fail", f"{there} is not a folder", "name a folder that may be made", key)
    elif not os.access(there, os.W_OK | os.X_OK):
        yield Check("adapter-path", "fail", f"this user may not write in {there}", f"look at it: ls -ld {there}", key)
    elif there != path:
        yield Check("adapter-path", "pass", f"{path} will be made", key=key)
    else:
        yield Check("adapter-path", "pass", f"{path}; adapter files that are there are moved aside", key=key)


def fit_checkpoints(
    job: Job, resolved: Resolved, need: DiskNeed, checkpoints: Path, min_free: int
) -> tuple[Resolved, DiskNeed]:
    """Keep as many checkpoints as there is room for, where the job leaves their number open."""
    adapter = Path(str(resolved.config["adapter_path"]))
    saves = need.adapter_peak if _device(adapter) == _device(checkpoints) else 0
    try:
        room = max(0, free_bytes(checkpoints) - min_free - saves)
    except OSError:
        return resolved, need  # check_disk says so
    why = f"auto: only {in_bytes(room)} free for checkpoints of {in_bytes(need.checkpoint)}"
    return fit_keep(job, resolved, need, room, why)


def check_disk(job: Job, need: DiskNeed, checkpoints: Path, adapter: Path, min_free: int) -> Iterator[Check]:
    """Compare what a run writes with the room on its volumes, which may be one or two."""
    several = need.saves > 1
    saves = f"{need.saves} save{'s' if several else ''} of {in_bytes(need.weights)}{', 1 being replaced' * several}"
    kept = f"{need.checkpoints} checkpoints of {in_bytes(need.checkpoint)}: {kept_words(need)}"
    few = (job.stoker.checkpoint.keep or 1) == 1
    fewer = "" if few else "keep fewer checkpoints (stoker: {checkpoint: {keep: auto}})"
    seldom = f"raise save_every (its files take {in_bytes(need.weights * (need.saves - 1))})" if several else ""
    wanted: dict[int, list[_Part]] = {}
    wanted.setdefault(_device(checkpoints), []).append(_Part(checkpoints, need.checkpoints_total, kept, fewer))
    wanted.setdefault(_device(adapter), []).append(_Part(adapter, need.adapter_peak, saves, seldom))
    for parts in wanted.values():
        yield _room(parts, min_free)


def kept_words(need: DiskNeed) -> str:
    """Say which checkpoints are on the disk at the same time, at the most."""
    return f"{need.keep} kept, 1 from before a suspected fault, 1 being written"


@dataclass(frozen=True, slots=True)
class _Part:
    """What a run writes at one place, in bytes and in words, and how it could be less."""

    path: Path
    size: int
    words: str
    less: str


def _room(parts: list[_Part], min_free: int) -> Check:
    key, path = ("stoker", "checkpoint"), parts[0].path
    size = sum(part.size for part in parts)
    try:
        free = max(0, free_bytes(path) - min_free)
    except OSError as error:
        return Check("disk-space", "fail", *explain_access(error, path), key)
    what = "; ".join(part.words for part in parts)
    detail = f"needs about {in_bytes(size)} ({what}), {in_bytes(free)} free for it at {path}"
    if size <= free:
        return Check("disk-space", "pass", detail, key=key)
    ways = [*(part.less for part in parts if part.less), f"make room: {in_bytes(size - free)} more"]
    return Check("disk-space", "fail", detail, ", or ".join(ways), key)


def _device(path: Path) -> int:
    for parent in (path, *path.parents):
        try:
            return parent.stat().st_dev
        except OSError:
            continue
    return 0
