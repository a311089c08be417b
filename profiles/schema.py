"""Stoker's own keys: what stands under `stoker:` in a job file (DESIGN section 5). One model per mapping."""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, PlainValidator, model_validator

MAX_INT = 2**31 - 1
# Preflight checks that a person may override; the others name something without which no trainer can start.
OVERRIDABLE = (
    "data-format",
    "disk-space",
    "num-layers",
    "quantized-full",
    "slow-hardware",
    "trainer-version",
    "weights",
)
_DURATION = re.compile(r"(?:(\d{1,6})d)?(?:(\d{1,6})h)?(?:(\d{1,6})m)?(?:(\d{1,6})s)?")
_ENV_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


def _visible(value: str) -> str:
    if not value.strip():
        raise ValueError("expected text, got nothing")
    if not value.isprintable():
        raise ValueError("expected one line of printable text")
    return value


Count = Annotated[int, Field(ge=1, le=MAX_INT)]
Text = Annotated[str, Field(max_length=4096), AfterValidator(_visible)]
Argv = Annotated[tuple[Annotated[str, Field(max_length=65_536)], ...], Field(strict=False, min_length=1)]


@dataclass(frozen=True, slots=True)
class Every:
    """How often a checkpoint is committed. Both None = `auto`.

    Attributes:
        iterations: as the job says.
        seconds: as the job says.
    """

    iterations: int | None = None
    seconds: float | None = None


AUTO = Every()


def parse_duration(text: str) -> float | None:
    """Return the seconds of `90s`, `10m`, `1h30m` or `2d`; None for anything else, and for nothing."""
    match = _DURATION.fullmatch(text)
    if not match or not any(match.groups()):
        return None
    days, hours, minutes, seconds = (int(group or 0) for group in match.groups())
    return float(days * 86_400 + hours * 3600 + minutes * 60 + seconds) or None


def _every(value: object) -> Every:
    if value == "auto":
        return AUTO
    if isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= MAX_INT:
        return Every(iterations=value)
    if isinstance(value, str) and (seconds := parse_duration(value)):
        return Every(seconds=seconds)
    raise ValueError("expected auto, a number of iterations from 1, or a time such as 10m")


def _keep(value: object) -> int | None:
    if value == "auto":
        return None
    if isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= 1000:
        return value
    raise ValueError("expected auto or a number of checkpoints from 1 to 1000")


def _env(value: object) -> dict[str, str]:
    if not isinstance(value, dict):
        raise ValueError("expected a mapping of names to text")  # noqa: TRY004 - pydantic collects ValueErrors
    result = {}
    for name, content in value.items():
        if not _ENV_NAME.fullmatch(name):
            raise ValueError(f"{name!r} is no name of an environment variable (letters, digits and _)")
        if name.startswith("STOKER_"):
            raise ValueError(f"{name} is Stoker's own: names that begin with STOKER_ cannot be set")
        if isinstance(content, bool) or not isinstance(content, str | int):
            raise ValueError(f"expected text for {name}: put the value in quotes")  # noqa: TRY004 - as above
        result[name] = str(content)
    return result


def _attempts(value: object) -> tuple[int, ...] | None:
    if value == "all":
        return None
    if isinstance(value, list) and value and all(type(n) is int and n >= 1 for n in value):
        return tuple(value)
    raise ValueError("expected all or a list of attempts such as [1, 2]")


class _Keys(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class DistributedKeys(_Keys):
    """Several workers through mlx.launch.

    Attributes:
        workers: processes; the batch is divided among them.
        hostfile: mlx's own JSON file of hosts; None = this machine.
    """

    workers: Annotated[int, Field(ge=2, le=1024)]
    backend: Literal["ring", "mpi", "nccl", "jaccl", "jaccl-ring"] = "ring"
    hostfile: Text | None = None


class CheckpointKeys(_Keys):
    """When checkpoints are committed and how many are kept.

    Attributes:
        every: iterations, seconds, or `AUTO`.
        keep: None = auto (3, or 2 above 20 GB each).
    """

    every: Annotated[Every, PlainValidator(_every)] = AUTO
    keep: Annotated[int | None, PlainValidator(_keep)] = None


class RecoveryKeys(_Keys):
    """What recovery may do without asking.

    Attributes:
        lossy: changes that alter what is trained (shorter sequences, another learning rate).
        start_over: going back to iteration 0.
        policies: a YAML file of policies before the built-in ones.
        rules: a YAML file of diagnosis rules before the built-in ones.
    """

    lossy: Literal["allow", "ask", "never"] = "allow"
    start_over: Literal["ask", "allow", "never"] = "ask"
    policies: Text | None = None
    rules: Text | None = None


class PreflightKeys(_Keys):
    """Checks that the person overrides on purpose, by name."""

    allow: Annotated[tuple[Text, ...], Field(strict=False)] = ()


class NotifyKeys(_Keys):
    """What is run when the run is held, fails or completes; the event stands on its standard input as JSON."""

    command: Argv


class DrillFault(_Keys):
    """One injected fault.

    Attributes:
        at: the iteration at which it strikes.
        above: micro-batches larger than this run out of memory.
        attempts: in which attempts; None = in all.
    """

    fault: Literal["kill", "truncate", "nan", "oom", "hang"]
    at: Count | None = None
    above: Count | None = None
    attempts: Annotated[tuple[int, ...] | None, PlainValidator(_attempts)] = (1,)

    @model_validator(mode="after")
    def _complete(self) -> Self:
        if self.above is not None and self.fault != "oom":
            raise ValueError(f"above belongs to oom; {self.fault} takes at, an iteration")
        if self.at is None and self.above is None:
            wanted = "above (a batch size) or at (an iteration)" if self.fault == "oom" else "at, an iteration"
            raise ValueError(f"{self.fault} needs {wanted}")
        return self

    @model_validator(mode="before")
    @classmethod
    def _default_attempts(cls, value: Any) -> Any:
        """Running out of memory goes on until the batch is smaller; the others strike once."""
        if isinstance(value, Mapping) and value.get("fault") == "oom" and "attempts" not in value:
            return {**value, "attempts": "all"}
        return value

    def strikes(self, attempt: int) -> bool:
        """Whether it is injected into this attempt."""
        return self.attempts is None or attempt in self.attempts


class StokerKeys(_Keys):
    """Everything under `stoker:`; paths are absolute once the job is loaded.

    Attributes:
        name: what people call the run; None only before the job is loaded (then: the file's name).
        profile: `auto` = the validated row of machine and model where the job leaves the choice; `none` = never.
        python: the interpreter that trains; None = the daemon's own.
        trainer: name of a trainer row.
        command: argv of `trainer: command`, with {placeholders}.
        priority: higher first.
        needs: names of runs that must have completed before.
        env: environment of the trainer; values are never recorded.
        drill: injected faults.
        base_dir: where relative paths start.
    """

    name: Annotated[Text, Field(max_length=100)] | None = None
    profile: Literal["auto", "none"] = "auto"
    python: Text | None = None
    trainer: Text = "mlx-lm"
    command: Argv | None = None
    priority: Annotated[int, Field(ge=-1_000_000, le=1_000_000)] = 0
    needs: Annotated[tuple[Text, ...], Field(strict=False)] = ()
    distributed: DistributedKeys | None = None
    checkpoint: CheckpointKeys = CheckpointKeys()
    recovery: RecoveryKeys = RecoveryKeys()
    preflight: PreflightKeys = PreflightKeys()
    env: Annotated[dict[str, str], BeforeValidator(_env)] = {}
    notify: NotifyKeys | None = None
    drill: Annotated[tuple[DrillFault, ...], Field(strict=False)] = ()
    base_dir: Text | None = None


def finite_number(value: object) -> bool:
    """Whether a value is a number one can compute with; true and false are not."""
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
