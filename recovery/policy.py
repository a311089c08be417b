"""Policies: cause -> rungs, as data. The packaged rows stand in policies.yaml; a person's file replaces rows by cause.

A file that does not fit is refused with every problem at once, each with its line. The rules below make sure that no
ladder can go on for ever: whatever launches again without changing anything says how often, and every ladder ends.
"""

import string
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from stoker.profiles.yaml_positions import Document, parse

PACKAGED = Path(__file__).with_name("policies.yaml")

# What `say`, `words` and the texts of notes may name in {braces}.
PLACEHOLDERS = frozenset({
    "at", "iteration", "earlier", "source", "from", "to", "micro_batch", "grad_checkpoint", "max_seq_length",
    "learning_rate", "delay", "used", "finding", "place", "advice", "cause",
})  # fmt: skip

LAUNCHES = frozenset({"resume", "rewind", "wait"})

Identifier = Annotated[str, Field(pattern=r"^[a-z][a-z0-9-]*$")]
Cause = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$")]
Globs = Annotated[tuple[str, ...], Field(min_length=1)]
Source = Literal["newest", "before_onset", "clear_of_onset", "older", "before_easing", "start"]


class PolicyError(ValueError):
    """A policies file that cannot be used; the message lists every problem, one a line."""


class _Data(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True, strict=False)


class When(_Data):
    """Conditions; all that are given must hold.

    Attributes:
        same_iteration: an attempt of this row ended at the same iteration before (false: one ended before, at another).
        same_place: an attempt without progress in between had the same fingerprint.
        no_iteration: this attempt completed no iteration.
        progress: this attempt committed a newer good checkpoint than any before.
        resumed: this attempt started from a checkpoint, not from iteration 0.
        retryable: what the diagnosis says of trying again.
        finding: wildcard patterns for the rule or the text of the deciding finding, or the fingerprint.
        eased: the learning rate in effect was lowered after iteration 0, so part of the run was trained with a higher one.
        restart_free: a start from iteration 0 is allowed without asking.
        after: the rung of this row whose launch this attempt was.
    """

    same_iteration: bool | None = None
    same_place: bool | None = None
    no_iteration: bool | None = None
    progress: bool | None = None
    resumed: bool | None = None
    retryable: tuple[Literal["yes", "no", "adjusted"], ...] | None = None
    finding: Globs | None = None
    eased: bool | None = None
    restart_free: bool | None = None
    after: Identifier | None = None


class Backoff(_Data):
    """Seconds before the nth use of a rung: `first` x `factor`^n, at most `max`, spread by +- `jitter` (a fraction)."""

    first: Annotated[float, Field(gt=0)]
    factor: Annotated[float, Field(ge=1)] = 2.0
    max: Annotated[float, Field(gt=0)]
    jitter: Annotated[float, Field(ge=0, le=1)] = 0.0
    immediate: Annotated[int, Field(ge=0)] = 0

    def delay(self, used: int, fraction: float) -> float:
        """Seconds to wait when the rung was used `used` times before; `fraction` from 0 to 1, 0.5 = no spread."""
        if used < self.immediate:
            return 0.0
        plain = min(self.max, self.first * self.factor ** min(used - self.immediate, 64))
        return plain * (1 + self.jitter * (2 * fraction - 1))


class Adjust(_Data):
    """One change of configuration, relative to the value in effect; exactly one of divide, multiply, set."""

    field: Literal["micro_batch", "grad_checkpoint", "max_seq_length", "learning_rate"]
    divide: Annotated[int, Field(ge=2)] | None = None
    multiply: Annotated[float, Field(gt=0, lt=1)] | None = None
    set: Literal[True] | None = None
    floor: Annotated[float, Field(gt=0)] | None = None
    ramp_steps: Annotated[int, Field(ge=0)] = 0
    lossy: bool = False
    preserves: tuple[Literal["effective_batch", "data_order", "iterations", "schedule"], ...]

    @model_validator(mode="after")
    def _fits_the_field(self) -> Self:
        needed = {"grad_checkpoint": "set", "learning_rate": "multiply"}.get(self.field, "divide")
        given = [key for key in ("divide", "multiply", "set") if getattr(self, key) is not None]
        if given != [needed]:
            raise ValueError(f"{self.field} is changed with `{needed}` alone, not with {given or 'nothing'}")
        if needed != "set" and self.floor is None:
            raise ValueError(f"{self.field} needs a `floor`: the smallest value that is still worth trying")
        return self


class Note(_Data):
    """A sentence that is added to the reason where its conditions hold."""

    when: When
    text: str


class Rung(_Data):
    """One thing to do; policies.yaml explains the keys."""

    id: Identifier
    action: Literal["resume", "rewind", "wait", "hold", "fail"]
    say: Annotated[str, Field(min_length=1)]
    from_: Annotated[Source, Field(alias="from")] = "newest"
    times: Annotated[int, Field(ge=1)] | None = None
    per: Literal["progress", "run"] = "progress"
    counted: bool = True
    adjust: Adjust | None = None
    backoff: Backoff | None = None
    when: When = When()
    release: Literal["disk", "person", "time"] | None = None
    notes: tuple[Note, ...] = ()
    why: str = ""

    @property
    def launches(self) -> bool:
        """Does it start another attempt?"""
        return self.action in LAUNCHES

    @property
    def plain(self) -> bool:
        """Does it start another attempt at once that differs in nothing?"""
        return self.adjust is None and self.action in {"resume", "rewind"}

    @model_validator(mode="after")
    def _holds_together(self) -> Self:
        if self.launches and self.adjust is None and self.times is None:
            raise ValueError("a rung that launches again without a change needs `times`: nothing loops")
        if self.launches and not self.counted and self.times is None:
            raise ValueError("a rung that is not counted needs `times`: nothing loops")
        if (self.adjust or self.backoff) and not self.launches:
            raise ValueError(f"`adjust` and `backoff` belong to a launch, not to {self.action}")
        if self.action == "wait" and self.backoff is None:
            raise ValueError("`wait` needs `backoff`: how long")
        if (self.action == "hold") != (self.release is not None):
            raise ValueError("`release` (disk, person, time) belongs to `hold`, and `hold` needs it")
        if self.release in {"disk", "time"} and self.times is None:
            raise ValueError("a hold that ends by itself needs `times`: nothing loops")
        for text in (self.say, *(note.text for note in self.notes)):
            check_template(text)
        return self


class Given(_Data):
    """The situation of an example, as far as it matters; everything else is unremarkable.

    Attributes:
        past: rungs of this row that were taken before, oldest first, without progress.
        earlier_at: the iterations at which those attempts ended; left out = where this one did, with `progress` one before.
        progress: this attempt committed a newer good checkpoint than any before.
    """

    cause: Cause | None = None
    batch_size: int = 4
    micro_batch: int | None = None
    grad_checkpoint: bool = False
    max_seq_length: int = 2048
    learning_rate: float | None = None
    from_iteration: int = 0
    last_iteration: int = 50
    onset: int | None = None
    eased_from: int | None = None
    lost_seconds: float | None = None
    start_over: Literal["ask", "allow", "never"] = "allow"
    good: tuple[int, ...] = ()
    past: tuple[Identifier, ...] = ()
    earlier_at: tuple[int, ...] = ()
    progress: bool = False
    finding: str = ""
    fingerprint: str = ""
    retryable: Literal["yes", "no", "adjusted"] = "yes"
    lossy: Literal["allow", "ask", "never"] = "allow"


class Expect(_Data):
    """What a plan must be; keys that are left out are not compared. `adjust` = the change, `{}` = none."""

    rung: Identifier
    action: str | None = None
    target: int | None = None
    adjust: dict[str, Any] | None = None
    counted: bool | None = None
    delay_s: float | None = None
    release: str | None = None


class Example(_Data):
    """A situation and the rung that must be taken in it."""

    given: Given
    expect: Expect


class Row(_Data):
    """The ladder of one or more causes. Its name is its first cause.

    `examples` are held against the ladder by `stoker.recovery.policy_examples`.
    """

    causes: Annotated[tuple[Cause, ...], Field(min_length=1)]
    rungs: Annotated[tuple[Rung, ...], Field(min_length=1)]
    why: str = ""
    examples: tuple[Example, ...] = ()

    @property
    def name(self) -> str:
        """The first part of the row's name in a record."""
        return self.causes[0]

    @model_validator(mode="after")
    def _ends(self) -> Self:
        ids = [rung.id for rung in self.rungs]
        twice = sorted({rung for rung in ids if ids.count(rung) > 1})
        if twice:
            raise ValueError(f"rung ids must differ within a row: {', '.join(twice)}")
        last = self.rungs[-1]
        if last.launches or last.times is not None or last.when != When():
            raise ValueError("the last rung must be `fail` or `hold`, without `when` and `times`: every ladder ends")
        return self


class General(_Data):
    """Limits over all causes; policies.yaml explains them."""

    plain: Annotated[int, Field(ge=0)] = 8
    launches: Annotated[int, Field(ge=0)] = 24
    without_iteration: Annotated[int, Field(ge=0)] = 3
    restart_free_seconds: Annotated[float, Field(ge=0)] = 1800


class Policies(_Data):
    """All rows, each cause in at most one."""

    version: Literal[1]
    general: General = General()
    words: dict[Cause, str] = {}
    rows: tuple[Row, ...] = ()

    @model_validator(mode="after")
    def _once_each(self) -> Self:
        causes = [cause for row in self.rows for cause in row.causes]
        twice = sorted({cause for cause in causes if causes.count(cause) > 1})
        if twice:
            raise ValueError(f"a cause has one row: {', '.join(twice)}")
        for text in self.words.values():
            check_template(text)
        return self

    def row(self, cause: str) -> Row:
        """The row of a cause; that of `unknown` for a cause without one."""
        found = {name: row for row in self.rows for name in row.causes}
        return found.get(cause) or found["unknown"]

    def rung(self, name: str) -> Rung | None:
        """The rung named `row/rung` in a record; None when the policies have changed since."""
        row_name, _, rung_id = name.partition("/")
        for row in self.rows:
            if row.name == row_name:
                return next((rung for rung in row.rungs if rung.id == rung_id), None)
        return None


def check_template(text: str) -> None:
    """Raise ValueError unless the {placeholders} of a text are known."""
    try:
        names = {name for _, name, _, _ in string.Formatter().parse(text) if name is not None}
    except ValueError as error:
        raise ValueError(f"{text!r}: {error}") from error
    unknown = sorted(names - PLACEHOLDERS)
    if unknown:
        raise ValueError(f"unknown placeholder {{{unknown[0]}}}; known are {', '.join(sorted(PLACEHOLDERS))}")


def load_policies(extra: Path | None = None) -> Policies:
    """The packaged policies; with the rows, words and limits of a person's file in place of their own.

    Raises PolicyError when the file does not fit, OSError when it cannot be read.
    """
    packaged = _packaged()
    if extra is None:
        return packaged
    return merge(packaged, parse_policies(extra.read_bytes(), file=str(extra)))


@cache
def _packaged() -> Policies:
    return parse_policies(PACKAGED.read_bytes(), file=PACKAGED.name)


def parse_policies(data: bytes, *, file: str) -> Policies:
    """Read a policies file; `file` is its name in messages. Raises PolicyError."""
    document = parse(data)
    if document.flaws:
        raise PolicyError("\n".join(f"{file}:{flaw.mark.line}: {flaw.message}" for flaw in document.flaws))
    try:
        return Policies.model_validate(document.value)
    except ValidationError as error:
        problems = error.errors()
        # A list whose items are all refused is reported as empty, too: that line would only confuse.
        refused = {problem["loc"][: len(problem["loc"]) - 1] for problem in problems if problem["type"] != "too_short"}
        inside = {loc[:end] for loc in refused for end in range(len(loc) + 1)}
        shown = [problem for problem in problems if problem["type"] != "too_short" or problem["loc"] not in inside]
        lines = [_line(file, document, problem["loc"], problem["msg"]) for problem in shown]
        raise PolicyError("\n".join(lines)) from error


def _line(file: str, document: Document, loc: tuple[int | str, ...], message: str) -> str:
    """One problem as `file:line: rows[2].rungs[0].times: what is wrong`."""
    path = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in loc).lstrip(".")
    line = document.value_mark(loc).line
    return f"{file}:{line}: {path or 'the file'}: {message.removeprefix('Value error, ')}"


def merge(base: Policies, mine: Policies) -> Policies:
    """`base` with the rows of `mine` for the causes that `mine` names, and with the limits that it sets."""
    named = {cause for row in mine.rows for cause in row.causes}
    kept = []
    for row in base.rows:
        causes = tuple(cause for cause in row.causes if cause not in named)
        if causes:
            kept.append(row.model_copy(update={"causes": causes}))
    limits = mine.general.model_dump(exclude_unset=True)
    return Policies(
        version=1,
        general=base.general.model_copy(update=limits),
        words={**base.words, **mine.words},
        rows=(*kept, *mine.rows),
    )
