"""A job file -> a job, or everything that is wrong with it, each with its place.

Pure: the disk is asked only through the `exists` that is handed in.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePath
from typing import Any

from pydantic import BaseModel, ValidationError

from stoker.profiles import crosscheck
from stoker.profiles.facts import TrainerDefaults
from stoker.profiles.messages import dotted, explain
from stoker.profiles.mlx_keys import MlxLmKeys
from stoker.profiles.places import PlaceError, Places
from stoker.profiles.problem import MAX_PROBLEMS, Problem, Severity, nearest
from stoker.profiles.schema import StokerKeys
from stoker.profiles.trainer_rows import TrainerRow, trainer_rows
from stoker.profiles.yaml_positions import Document, Mark, parse
from stoker.profiles.yaml_positions import Path as KeyPath

__all__ = ["Job", "Peek", "Problem", "load_job", "peek"]

_PATHS = ("resume_adapter_file", "adapter_path")  # of mlx-lm's keys those that are never an id of the hub


@dataclass(frozen=True, slots=True)
class Job:
    """A valid job.

    Attributes:
        name: as the job says, else the file's name without its ending.
        config: the trainer's keys as submitted, keys that are null left out, paths absolute. Nothing else is changed.
        stoker: Stoker's own keys, paths absolute.
        warnings: what a person should know although the job is accepted.
        document: the text, with the place of each key.
        file: as the person named it.
    """

    name: str
    config: dict[str, Any]
    stoker: StokerKeys
    warnings: tuple[Problem, ...]
    document: Document = field(repr=False)
    file: str

    @property
    def row(self) -> TrainerRow:
        """The trainer's row."""
        return trainer_rows()[self.stoker.trainer]

    def problem(self, path: KeyPath, message: str) -> Problem:
        """Return a problem with the value at `path` that was found later, by a check that looks at the disk."""
        mark = self.document.value_mark(path)
        return Problem(self.file, mark.line, mark.column, message)


@dataclass(frozen=True, slots=True)
class Peek:
    """What must be known before a job can be loaded; all of it may be wrong still.

    Attributes:
        python: `stoker: {python}`, resolved; None = the daemon's own.
        trainer: the row's name; an unknown one reads as the default, loading reports it.
    """

    python: str | None
    trainer: str

    @property
    def needs_interpreter(self) -> bool:
        """Whether the interpreter must be asked for mlx-lm's defaults."""
        return trainer_rows()[self.trainer].interpreter is not None


def peek(data: bytes, *, base_dir: Path | None, home: Path | None) -> Peek:
    """Return which interpreter a job names; never raises."""
    value = parse(data).value or {}
    stoker = value.get("stoker")
    stoker = stoker if isinstance(stoker, dict) else {}
    trainer, python = stoker.get("trainer"), stoker.get("python")
    trainer = trainer if isinstance(trainer, str) and trainer in trainer_rows() else "mlx-lm"
    places = Places(base_dir, home, lambda _path: False)
    try:
        if isinstance(own := stoker.get("base_dir"), str):
            places = Places(Path(places.absolute(own)), home, places.exists)
        python = places.absolute(python) if isinstance(python, str) and "/" in python else None
    except PlaceError:
        python = None
    return Peek(python, trainer)


def load_job(
    data: bytes,
    *,
    file: str,
    base_dir: Path | None,
    defaults: TrainerDefaults,
    home: Path | None = None,
    exists: Callable[[str], bool] = lambda _path: False,
) -> tuple[Job | None, tuple[Problem, ...]]:
    """Read a job file.

    Args:
        data: the file's bytes, whatever they are: nothing raises.
        file: its name, for messages and for the default of the run's name.
        base_dir: where relative paths start; None for a file that was dropped into an inbox.
        defaults: of the interpreter that trains (see `peek`); NO_DEFAULTS when it could not be asked.
        home: what `~` means.
        exists: whether a path exists; tells `folder/name` from an id of the hub.

    Returns:
        The job, or None when any problem is an error; all problems, by place.
    """
    document = parse(data)
    loader = _Loader(file, document, defaults)
    for flaw in document.flaws:
        loader.add(flaw.mark, flaw.message)
    if document.value is None:
        return None, loader.sorted()
    job = loader.load(document.value, base_dir, home, exists)
    problems = loader.sorted()
    return (None if loader.failed else job), problems


class _Loader:
    """Collects the problems of one file."""

    def __init__(self, file: str, document: Document, defaults: TrainerDefaults) -> None:
        self._file = file
        self._document = document
        self._defaults = defaults
        self._problems: list[Problem] = []
        self.failed = False

    def add(self, mark: Mark, message: str, close: str | None = None, *, warning: bool = False) -> None:
        self.failed = self.failed or not warning
        severity: Severity = "warning" if warning else "error"
        message = "".join(char if char.isprintable() else "?" for char in message)  # keys may hold terminal escapes
        self._problems.append(Problem(self._file, mark.line, mark.column, message, close, severity))

    def at(self, path: KeyPath, message: str, close: str | None = None, *, warning: bool = False) -> None:
        """Note something about the value at `path`."""
        self.add(self._document.value_mark(path), f"{dotted(path)}: {message}", close, warning=warning)

    def sorted(self) -> tuple[Problem, ...]:
        """Return the problems by place; of very many a hundred, errors before warnings."""
        found = sorted(self._problems, key=lambda problem: (problem.line, problem.column))
        if len(found) <= MAX_PROBLEMS:
            return tuple(found)
        found.sort(key=lambda problem: problem.severity)  # stable: errors first, each group by place
        kept, cut = found[: MAX_PROBLEMS - 1], found[MAX_PROBLEMS - 1 :]
        kept.sort(key=lambda problem: (problem.line, problem.column))
        more = Problem(self._file, cut[0].line, cut[0].column, f"and {len(cut)} more", None, cut[0].severity)
        return (*kept, more)

    def load(
        self, value: dict[str, Any], base_dir: Path | None, home: Path | None, exists: Callable[[str], bool]
    ) -> Job | None:
        config = {key: item for key, item in value.items() if item is not None}
        keys = self._stoker(config.pop("stoker", {}))
        row = self._row(keys.trainer)
        meant = self._unknown(config, row)
        bad = self._types(config)
        self._train(config)
        places = self._places(keys, base_dir, home, exists)
        config = self._resolve(config, places, bad)
        for finding in crosscheck.run(config, keys, row, self._defaults, bad=bad, meant=meant):
            if finding.on_key:
                self.add(
                    self._document.key_mark(finding.path), finding.message, finding.nearest, warning=finding.warning
                )
            else:
                self.at(finding.path, finding.message, finding.nearest, warning=finding.warning)
        keys = self._resolve_stoker(keys, places)
        if self.failed:
            return None
        warnings = tuple(problem for problem in self.sorted() if problem.severity == "warning")
        return Job(keys.name or default_name(self._file), config, keys, warnings, self._document, self._file)

    def _stoker(self, value: Any) -> StokerKeys:
        """Return Stoker's keys; a wrong one is noted and stands at its default for the checks that follow."""
        if not isinstance(value, dict):
            self.at(("stoker",), "expected a mapping such as {name: my-run}")
            return StokerKeys()
        given = _without_nulls(value)
        try:
            return StokerKeys.model_validate(given)
        except ValidationError as error:
            wrong = {str(detail["loc"][0]) for detail in error.errors() if detail["loc"]}
            self._report(error, ("stoker",), StokerKeys)
        return StokerKeys.model_validate({key: item for key, item in given.items() if key not in wrong})

    def _report(self, error: ValidationError, prefix: KeyPath, model: type[BaseModel]) -> None:
        for detail in error.errors():
            message, close = explain(detail, model)
            path = (*prefix, *detail["loc"])
            if detail["type"] == "extra_forbidden":
                self.add(self._document.key_mark(path), f"{dotted(path)}: {message}", close)
            elif detail["type"] == "missing":
                self.at(path[:-1], message)
            else:
                self.at(path, message, close)

    def _row(self, name: str) -> TrainerRow:
        rows = trainer_rows()
        if name not in rows:
            known = "; ".join(f"{row.name} ({row.about})" for row in rows.values())
            self.at(("stoker", "trainer"), f'there is no trainer "{name[:40]}"; there are {known}', nearest(name, rows))
        return rows.get(name) or rows["mlx-lm"]

    def _unknown(self, config: Mapping[str, Any], row: TrainerRow) -> frozenset[str]:
        """Note unknown keys; return the keys that were probably meant by them."""
        own = self._defaults.config_defaults if row.interpreter else {}
        known = {*row.keys, *own}
        looked_up, meant = 0, set()
        for key in config:
            if key in known:
                continue
            looked_up += 1
            close = nearest(key, {*known, "stoker"}, row.meant) if looked_up <= MAX_PROBLEMS else None
            mark = self._document.key_mark((key,))
            label = self._defaults.label if row.interpreter else row.name
            if close:
                meant.add(close)
                self.add(mark, f"{dotted((key,))}: unknown key", close)
            else:
                hint = "; Stoker's own keys stand under `stoker:`" if key in StokerKeys.model_fields else ""
                self.add(mark, f"{dotted((key,))}: not a key of {label}, passed on as it is{hint}", warning=True)
        return frozenset(meant)

    def _types(self, config: Mapping[str, Any]) -> frozenset[str]:
        """Check types and ranges; return the top-level keys whose values are wrong."""
        try:
            MlxLmKeys.model_validate(config)
        except ValidationError as error:
            self._report(error, (), MlxLmKeys)
            return frozenset(str(detail["loc"][0]) for detail in error.errors() if detail["loc"])
        return frozenset()

    def _train(self, config: dict[str, Any]) -> None:
        if config.get("train") is False:
            self.at(
                ("train",), "false: Stoker runs training only; leave the key out (for a test at the end: test: true)"
            )
        if "config" in config:
            mark = self._document.key_mark(("config",))
            self.add(mark, "config: a job file is the configuration itself; move the keys of that file here")

    def _places(
        self, keys: StokerKeys, base_dir: Path | None, home: Path | None, exists: Callable[[str], bool]
    ) -> Places:
        places = Places(base_dir, home, exists)
        if keys.base_dir is None:
            return places
        try:
            return Places(Path(places.absolute(keys.base_dir)), home, exists)
        except PlaceError as error:
            self.at(("stoker", "base_dir"), str(error))
            return Places(Path("/"), home, exists)  # one message is enough

    def _resolve(self, config: dict[str, Any], places: Places, bad: frozenset[str]) -> dict[str, Any]:
        resolved = dict(config)
        for key in ("model", "data", *_PATHS):
            if key in config and key not in bad:
                convert = places.absolute if key in _PATHS else places.folder_or_hub_id
                resolved[key] = self._place((key,), config[key], convert)
        return resolved

    def _resolve_stoker(self, keys: StokerKeys, places: Places) -> StokerKeys:
        recovery = {key: getattr(keys.recovery, key) for key in ("policies", "rules") if getattr(keys.recovery, key)}
        found: dict[str, Any] = {
            "recovery": keys.recovery.model_copy(
                update={
                    key: self._place(("stoker", "recovery", key), text, places.absolute)
                    for key, text in recovery.items()
                }
            )
        }
        if keys.distributed and (hosts := keys.distributed.hostfile):
            path = self._place(("stoker", "distributed", "hostfile"), hosts, places.absolute)
            found["distributed"] = keys.distributed.model_copy(update={"hostfile": path})
        if keys.command:
            found["command"] = self._argv(("stoker", "command"), keys.command, places)
        if keys.notify:
            argv = self._argv(("stoker", "notify", "command"), keys.notify.command, places)
            found["notify"] = keys.notify.model_copy(update={"command": argv})
        if keys.base_dir is not None:
            found["base_dir"] = str(places.base_dir)
        if keys.python is not None and "/" not in keys.python:
            message = f'"{keys.python}": give the full path of the interpreter (see `command -v {keys.python}`)'
            self.at(("stoker", "python"), message)
        elif keys.python is not None:
            found["python"] = self._place(("stoker", "python"), keys.python, places.absolute)
        return keys.model_copy(update=found)

    def _argv(self, path: KeyPath, argv: tuple[str, ...], places: Places) -> tuple[str, ...]:
        """Resolve the program only: which other words are paths, only the program knows."""
        if not argv[0]:
            self.at(path, "the first word is empty: expected a program")
            return argv
        return (self._place((*path, 0), argv[0], places.program), *argv[1:])

    def _place(self, path: KeyPath, text: str, convert: Callable[[str], str]) -> str:
        try:
            return convert(text)
        except PlaceError as error:
            self.at(path, str(error))
            return text


def default_name(file: str) -> str:
    """Return the name of a run whose job does not say one."""
    stem = "".join(char if char.isprintable() else "_" for char in PurePath(file).stem).strip()
    return stem[:100] or "job"


def _without_nulls(value: Any) -> Any:
    """Leave out what is null (= default), at every depth of Stoker's own keys."""
    if isinstance(value, dict):
        return {key: _without_nulls(item) for key, item in value.items() if item is not None}
    if isinstance(value, list):
        return [_without_nulls(item) for item in value]
    return value
