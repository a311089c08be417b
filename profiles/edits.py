"""What `stoker edit` may change of an accepted job: `KEY=VALUE` words -> changes -> the job that results. Pure."""

import copy
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from stoker.profiles.problem import nearest
from stoker.profiles.schema import StokerKeys
from stoker.profiles.trainer_rows import trainer_rows
from stoker.profiles.yaml_positions import parse

MICRO_BATCH = "micro_batch"  # no key of mlx-lm: how many rows of a batch Stoker's trainer takes at once
CONFIG_KEYS = (
    "iters",
    "learning_rate",
    "save_every",
    "steps_per_eval",
    "steps_per_report",
    "val_batches",
    "grad_checkpoint",
    "max_seq_length",
)
_KEYS = (*CONFIG_KEYS, MICRO_BATCH)
# With another one of these it would be another run.
_NEW_JOB = ("name", "profile", "python", "trainer", "command", "distributed", "base_dir")
_STOKER_KEYS = tuple(f"stoker.{name}" for name in StokerKeys.model_fields if name not in _NEW_JOB)
HINT = f"can be edited: iters (up), {', '.join(_KEYS[1:])}, {', '.join(_STOKER_KEYS)} and what stands below these"
HIDDEN = "(hidden)"  # stands for the value of an environment variable wherever a change is written down
_ENV = ("stoker", "env")
_OPENERS = ("'", '"', "[", "{")
_COMMENT = re.compile(r"(^|\s)#")


@dataclass(frozen=True, slots=True)
class Change:
    """One key with its new value.

    Attributes:
        path: of the key in a job file.
        value: as YAML has it; None = the default.
    """

    path: tuple[str, ...]
    value: Any

    @property
    def key(self) -> str:
        """The key as a person writes it, `stoker.checkpoint.every`."""
        return ".".join(self.path)

    @property
    def secret(self) -> bool:
        """Whether the value must not be written down anywhere but in the job file."""
        return self.path[:2] == _ENV


def read(words: Sequence[str]) -> tuple[tuple[Change, ...], tuple[str, ...]]:
    """Return the changes that words such as `iters=200` ask for, and all mistakes in them, in words.

    A value is YAML on one line, so `1e-5`, `10m`, `true` and `[a, b]` mean what they mean in a job file.
    """
    changes: list[Change] = []
    mistakes: list[str] = []
    for word in words:
        key, separator, text = word.partition("=")
        path = tuple(key.strip().split("."))
        well_formed = separator and key.strip()
        mistake = _refusal(path) if well_formed else f"{_plain(word)}: expected KEY=VALUE, such as iters=200"
        value, unreadable = _value(text) if not mistake else (None, None)
        mistake = mistake or (unreadable and f"{key}: {unreadable}") or _twice(path, changes)
        if mistake:
            mistakes.append(mistake)
        else:
            changes.append(Change(path, value))
    return tuple(changes), tuple(mistakes)


def _refusal(path: tuple[str, ...]) -> str | None:
    """Return why a key cannot be edited."""
    key = _plain(".".join(path))
    if path == ("stoker",):
        return "stoker: name the key below it, such as stoker.priority=5"
    if path[0] == "stoker":
        if f"stoker.{path[1]}" in _STOKER_KEYS and all(path):
            return None
        known, close = path[1] in _NEW_JOB, nearest(key, _STOKER_KEYS)
    else:
        if len(path) == 1 and path[0] in _KEYS:
            return None
        row = trainer_rows()["mlx-lm"]
        meant = {other: name for other, name in row.meant.items() if name in _KEYS}
        # A smaller batch is wanted for its memory, and that is what micro_batch is for.
        known, close = path[0] in row.keys, nearest(key, _KEYS, {**meant, "batch_size": MICRO_BATCH})
    if close and not known:
        return f"{key}: unknown key (did you mean {close}?)"
    return f"{key}: a change of it is a new job: stoker submit a copy" + (f" (did you mean {close}?)" if close else "")


def _value(text: str) -> tuple[Any, str | None]:
    """Return the value and what is wrong with its text."""
    text = text.strip()
    if not text:
        return None, "no value; null stands for the default"
    if not text.isprintable():
        return None, "expected one line of printable text"
    if _COMMENT.search(text) and not text.startswith(_OPENERS):
        return None, "YAML would take # and what follows for a comment: put the value in quotes of its own, '\"...\"'"
    document = parse(f"value: {text}".encode())
    if document.flaws or document.value is None or set(document.value) != {"value"}:
        said = document.flaws[0].message if document.flaws else "it is more than one value"
        return None, f"expected one value: {said}"
    return document.value["value"], None


def _twice(path: tuple[str, ...], changes: Iterable[Change]) -> str | None:
    for other in changes:
        short = min(len(path), len(other.path))
        if path[:short] == other.path[:short]:
            both = "is" if path == other.path else f"and {other.key} are"
            return f"{'.'.join(path)} {both} named twice: say it once"
    return None


def _plain(text: str) -> str:
    text = "".join(char if char.isprintable() else "?" for char in text)
    return text if len(text) <= 60 else f"{text[:57]}..."


def changed(job: Mapping[str, Any], changes: Iterable[Change]) -> dict[str, Any]:
    """Return a job's mapping with the changes in it; `job` is not touched."""
    result = copy.deepcopy(dict(job))
    for change in changes:
        place = result
        for name in change.path[:-1]:
            inner = place.get(name)
            # Where a mapping is wanted and something else stands, the judgement of the result says so.
            place[name] = place = inner if isinstance(inner, dict) else {}
        place[change.path[-1]] = copy.deepcopy(change.value)
    return result


def without_secrets(words: Iterable[str]) -> list[str]:
    """Return the words as they may be kept: without values of environment variables."""
    kept = []
    for word in words:
        key, separator, _ = word.partition("=")
        secret = key.strip() == "stoker" or key.strip().startswith("stoker.env")
        kept.append(f"{key}={HIDDEN}" if separator and secret else word)
    return kept
