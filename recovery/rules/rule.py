"""A rule: what a row of the YAML files means.

A rule states one observation. It never decides alone: `stoker.recovery.diagnose` weighs what the rules saw.
"""

import re
from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from stoker.recovery.causes import Cause, Retryable
from stoker.recovery.dialects.events import Phase


def _tuple(value: Any) -> Any:
    return (value,) if isinstance(value, str | int | Mapping) else value


def _pattern(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    try:
        return re.compile(value)
    except re.error as error:
        raise ValueError(f"not a regular expression: {value!r}: {error}") from error


def _yes_no(value: Any) -> Any:
    """YAML reads a bare yes and no as booleans."""
    return {True: "yes", False: "no"}.get(value, value) if isinstance(value, bool) else value


Patterns = Annotated[tuple[str, ...], BeforeValidator(_tuple)]
Names = Annotated[tuple[str, ...], BeforeValidator(_tuple)]
Codes = Annotated[tuple[int, ...], BeforeValidator(_tuple)]
YesNo = Annotated[Retryable, BeforeValidator(_yes_no)]
Role = Literal["root", "cascade", "confirmation", "teardown", "noise"]


class Example(BaseModel):
    """A piece of log that a rule must (or must not) see something in. A bare string is its text."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    log: str = ""
    exit_code: int | None = None
    signal: str | None = None
    running: bool = False


def _examples(value: Any) -> Any:
    if isinstance(value, list):
        return tuple({"log": item} if isinstance(item, str) else item for item in value)
    return value


Examples = Annotated[tuple[Example, ...], BeforeValidator(_examples)]


class Rule(BaseModel):
    """One row.

    Attributes:
        id: unique, `topic.name`.
        cause: what it speaks for; `captured` = the group `cause` of the pattern names it.
        role: root decides; cascade (a consequence of something elsewhere) and confirmation decide only when nothing better
            was seen; teardown never does; noise hides the line from all rules.
        match: `line` = patterns look at lines; `exception` = at `Type: message` of a Python exception; `ending` = no text.
        any: at least one must be found (an exception rule without it takes every exception that its frames allow).
        not_: none may be found in the same text.
        before: at least one must have been found in a line before.
        frame: exception rules: some frame (`path in function | source`) must fit.
        last_frame: exception rules: the innermost frame of the training library must fit.
        phase: only while the log is in that phase.
        exit, signal: only with that exit code or signal; rules without patterns match on these alone.
        fallback: gives way to any rule that is not one.
        confidence: 0 to 1.
        retryable, advice: instead of the cause's; {names} in the advice are groups of the pattern.
        examples, counter_examples: run by the self-test.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: str = Field(pattern=r"^[a-z0-9_]+(\.[a-z0-9_]+)+$")
    cause: Cause | Literal["captured"] = "unknown"
    role: Role = "root"
    match: Literal["line", "exception", "ending"] = "line"
    any: Patterns = ()
    not_: Patterns = Field(default=(), alias="not")
    before: Patterns = ()
    frame: Patterns = ()
    last_frame: Patterns = ()
    phase: Annotated[tuple[Phase, ...], BeforeValidator(_tuple)] = ()
    exit: Codes = ()
    signal: Names = ()
    fallback: bool = False
    confidence: float = Field(default=0.9, gt=0, le=1)
    retryable: YesNo | None = None
    advice: str | None = None
    examples: Examples = Field(min_length=1)
    counter_examples: Examples = ()

    @model_validator(mode="after")
    def _complete(self) -> "Rule":
        for pattern in (*self.any, *self.not_, *self.before, *self.frame, *self.last_frame):
            _pattern(pattern)
        if self.match == "line" and not self.any:
            raise ValueError("a line rule needs patterns under `any`")
        if self.match == "ending" and not (self.exit or self.signal):
            raise ValueError("an ending rule needs `exit` or `signal`")
        if self.match != "exception" and (self.frame or self.last_frame):
            raise ValueError("only rules with `match: exception` have frames")
        if self.match == "exception" and not (self.any or self.frame or self.last_frame):
            raise ValueError("an exception rule needs `any`, `frame` or `last_frame`")
        return self

    def status_fits(self, exit_code: int | None, signal: str | None) -> bool:
        """Do the conditions on exit code and signal hold?"""
        if not self.exit and not self.signal:
            return True
        return exit_code in self.exit if exit_code is not None else signal in self.signal

    def finds(self, text: str) -> re.Match[str] | None:
        """Return the match of the first pattern that is found, unless one of `not` is found too. No pattern = any text."""
        for pattern in self.any or ("",):
            if found := compiled(pattern).search(text):
                return None if fits(self.not_, text) else found
        return None


@lru_cache(maxsize=2048)
def compiled(pattern: str) -> re.Pattern[str]:
    """Return the compiled pattern; most patterns of most rules are never needed."""
    return re.compile(pattern)


def fits(patterns: Iterable[str], text: str) -> bool:
    """Is any of the patterns found in the text?"""
    return any(compiled(pattern).search(text) for pattern in patterns)


class CauseRow(BaseModel):
    """What is true of a cause whatever rule named it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    retryable: YesNo
    advice: str
