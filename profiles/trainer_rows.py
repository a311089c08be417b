"""Trainers as data: one YAML row each, read and checked once. A new trainer needs no Python here."""

import functools
from importlib.resources import files
from typing import Annotated, Literal, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from stoker.profiles.yaml_positions import parse

Names = Annotated[tuple[str, ...], Field(strict=False)]
ExitMeaning = Literal["finished", "guard", "interrupted"]


def _exit_codes(value: object) -> object:
    """YAML keys are text here; exit codes are numbers."""
    return {int(key): meaning for key, meaning in value.items()} if isinstance(value, dict) else value


class _Row(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class Schedule(_Row):
    """The signature of a learning rate schedule.

    Attributes:
        arguments: names, in order.
        required: how many of them must be given.
        steps: those that count optimizer steps and must be whole numbers from 1.
    """

    arguments: Names
    required: int
    steps: Names


class Interpreter(_Row):
    """What the training interpreter needs.

    Attributes:
        python: oldest supported version of Python.
        modules: import name -> oldest supported version; None = any.
    """

    python: str
    modules: dict[str, str | None]


class TrainerRow(_Row):
    """One trainer.

    Attributes:
        name: as in `stoker: {trainer: NAME}`.
        about: in a few words, for messages.
        example: a job file that must be accepted; the row's self-test.
        keys: top-level keys of a job that it uses, beside those of the interpreter's mlx-lm where it needs one.
        required: of each list one key must be in the job.
        meant: other names that people use for a key -> the key.
        schedules: learning rate schedules, by name.
        placeholders: what `stoker: {command}` may use beside the keys -> its meaning; None = takes no command.
        interpreter: None = whatever the command starts.
        exit_codes: exit codes with a meaning; all others are crashes.
        capabilities: fields that adjustments may change (recovery's words).
        resume: `exact` = goes on from Stoker's checkpoints; `none` = starts from the beginning.
        checkpoints: who writes them.
        dialect: how its log is read.
        success: which evidence makes a run completed.
    """

    name: str
    about: str
    example: str
    keys: Names
    required: tuple[Names, ...] = Field(strict=False)
    meant: dict[str, str] = {}
    schedules: dict[str, Schedule] = {}
    placeholders: dict[str, str] | None = None
    interpreter: Interpreter | None
    exit_codes: Annotated[dict[int, ExitMeaning], BeforeValidator(_exit_codes)]
    capabilities: Annotated[
        frozenset[Literal["micro_batch", "batch_size", "grad_checkpoint", "learning_rate", "max_seq_length"]],
        Field(strict=False),
    ]
    resume: Literal["exact", "none"]
    checkpoints: Literal["stoker", "trainer"]
    dialect: str
    success: Annotated[
        tuple[Literal["last_iteration", "adapter_verified", "finite", "changed", "exit_zero"], ...], Field(strict=False)
    ]

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        unknown = ({key for group in self.required for key in group} | set(self.meant.values())) - set(self.keys)
        if unknown:
            raise ValueError(f"required or meant name keys that are not in keys: {', '.join(sorted(unknown))}")
        if overlap := set(self.meant) & set(self.keys):
            raise ValueError(f"meant explains keys that are valid themselves: {', '.join(sorted(overlap))}")
        if overlap := set(self.placeholders or ()) & set(self.keys):
            raise ValueError(f"placeholders repeat keys: {', '.join(sorted(overlap))}")
        if self.resume == "exact" and self.checkpoints != "stoker":
            raise ValueError("exact resume needs checkpoints of Stoker's own")
        if self.exit_codes.get(0) != "finished":
            raise ValueError("exit code 0 must mean finished")
        return self

    @property
    def takes_command(self) -> bool:
        """Whether the job must say which command to run."""
        return self.placeholders is not None


class RowError(ValueError):
    """A row that came with Stoker is wrong: a mistake of whoever edited it, never of a job."""


def read_row(data: bytes, name: str) -> TrainerRow:
    """Return the row in `data`.

    Raises:
        RowError: with all that is wrong, by line.
    """
    document = parse(data)
    lines = [f"{name}:{flaw.mark.line}: {flaw.message}" for flaw in document.flaws]
    if not lines:
        try:
            row = TrainerRow.model_validate(document.value)
        except ValidationError as error:
            lines = [f"{name}:{document.value_mark(e['loc']).line}: {e['loc']}: {e['msg']}" for e in error.errors()]
        else:
            if row.name != name.removesuffix(".yaml"):
                raise RowError(f"{name}:1: the row is called {row.name}; file and row must have one name")
            return row
    raise RowError("\n".join(lines))


@functools.cache
def trainer_rows() -> dict[str, TrainerRow]:
    """Return all rows by name."""
    folder = files("stoker.profiles") / "trainers"
    found = sorted((entry for entry in folder.iterdir() if entry.name.endswith(".yaml")), key=lambda entry: entry.name)
    rows = [read_row(entry.read_bytes(), entry.name) for entry in found]
    return {row.name: row for row in rows}


def capabilities(row: TrainerRow, command: tuple[str, ...]) -> frozenset[str]:
    """Return the fields that may be adjusted, and `resume` where the trainer goes on from checkpoints.

    A command can be adjusted only in what it takes as a placeholder.
    """
    able: set[str] = {"resume"} if row.resume == "exact" else set()
    if not row.takes_command:
        return frozenset(able | row.capabilities)
    return frozenset(able | {name for name in row.capabilities if any(f"{{{name}}}" in word for word in command)})
