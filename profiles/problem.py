"""One thing that is wrong, or odd, in a job file: where, what, and what was probably meant."""

import difflib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

Severity = Literal["error", "warning"]
MAX_PROBLEMS = 100  # of one file; nobody reads more
_CLOSE = 0.75  # similarity from which an unknown key counts as a misspelling
_LONGEST_KEY = 48  # characters; comparing longer ones costs time and says nothing


@dataclass(frozen=True, slots=True)
class Problem:
    """One message about a job file.

    Attributes:
        file: as the person named it.
        line: counts from 1.
        column: counts from 1.
        nearest: the valid key or value that was probably meant.
    """

    file: str
    line: int
    column: int
    message: str
    nearest: str | None = None
    severity: Severity = "error"

    def __str__(self) -> str:
        """Return `job.yaml:3:1: unknown key itres (did you mean iters?)`."""
        meant = f" (did you mean {self.nearest}?)" if self.nearest else ""
        return f"{self.file}:{self.line}:{self.column}: {self.message}{meant}"

    def as_json(self) -> dict[str, Any]:
        """Return the shape of DESIGN section 6."""
        return {
            "file": self.file,
            "line": self.line,
            "column": self.column,
            "message": self.message,
            "nearest": self.nearest,
        }


def nearest(word: str, known: Iterable[str], meant: Mapping[str, str] | None = None) -> str | None:
    """Return the known word that `word` is probably a misspelling of; case, `-` and `_` do not count.

    `meant` names words that are commonly used for a known one although they look different (`lr` for `learning_rate`).
    """
    if len(word) > _LONGEST_KEY:
        return None
    plain = _plain(word)
    for other, target in (meant or {}).items():
        if _plain(other) == plain:
            return target
    by_plain = {_plain(key): key for key in known}
    if plain in by_plain:
        return by_plain[plain]
    close = difflib.get_close_matches(plain, by_plain, n=1, cutoff=_CLOSE)
    return by_plain[close[0]] if close else None


def shown(value: Any) -> str:
    """Return a value as a person would write it in YAML, shortened."""
    match value:
        case None:
            text = "null"
        case bool():
            text = "true" if value else "false"
        case dict():
            return "a mapping"
        case list():
            return "a list"
        case str():
            text = f'"{value}"'
        case _:
            text = repr(value)
    text = "".join(char if char.isprintable() else "?" for char in text)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _plain(word: str) -> str:
    return word.lower().replace("-", "").replace("_", "").replace(" ", "")
