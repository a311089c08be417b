"""A data folder: are the JSONL files there, can mlx-lm read them, are there enough examples for a batch?

Only the beginning of each file is parsed (a drop must not wait for gigabytes), and its last line, where a copy that was
cut off shows. What lies between, mlx-lm finds when it loads the file.
"""

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stoker.supervisor.checks import Check, explain_access

_KEY = ("data",)
_PARSED_LINES = 1000
_PARSED_BYTES = 2_000_000
_TAIL_BYTES = 65_536
_LONGEST_LINE = 16_000_000
_SHOWN = 3
# Which keys make an example, in the order in which mlx-lm looks: name of the job's key, and its default.
_FEATURES = {
    "prompt": ("prompt_feature", "prompt"),
    "completion": ("completion_feature", "completion"),
    "chat": ("chat_feature", "messages"),
    "text": ("text_feature", "text"),
}


@dataclass(frozen=True, slots=True)
class Examples:
    """The beginning of one JSONL file.

    Attributes:
        count: lines, but no more than were asked for.
        problems: `train.jsonl:17:5: ...`
        style: `text`, `chat` or `completions`; None when the first line is not readable.
    """

    count: int
    problems: tuple[str, ...]
    style: str | None


def check_data(folder: Path, config: Mapping[str, Any], *, test: bool) -> tuple[Check, ...]:
    """Return the checks `data`, `data-format` and `batch-size` for a local data folder."""
    try:
        names = os.listdir(folder)  # noqa: PTH208 - names only
    except NotADirectoryError:
        detail = f"{folder} is a file; mlx-lm reads train.jsonl and valid.jsonl of a folder"
        return (Check("data", "fail", detail, f"name its folder: data: {folder.parent}", _KEY),)
    except OSError as error:
        detail, fix = explain_access(error, folder)
        return (Check("data", "fail", detail, f"{fix}; data of the Hugging Face hub is written org/name", _KEY),)
    if "train.jsonl" not in names:
        others = ", ".join(sorted(name for name in names if not name.startswith("."))[:5]) or "nothing"
        detail = f"{folder} holds no train.jsonl (it holds {others})"
        return (Check("data", "fail", detail, "one JSON object a line, in train.jsonl, valid.jsonl, test.jsonl", _KEY),)
    wanted = int(config.get("batch_size") or 1)
    sets: dict[str, Examples] = {}
    for name in ("train", "valid", *(["test"] if test else [])):
        if f"{name}.jsonl" in names:
            try:
                sets[name] = read_examples(folder / f"{name}.jsonl", config, wanted)
            except OSError as error:
                return (Check("data", "fail", *explain_access(error, folder / f"{name}.jsonl"), _KEY),)
    return (_presence(folder, sets, test=test), _format(sets, config), _batch(sets, wanted))


def read_examples(path: Path, config: Mapping[str, Any], wanted: int) -> Examples:
    """Parse the beginning of a file and count its lines as far as `wanted`.

    Raises:
        OSError: it cannot be read.
    """
    reader = _Reader(path.name, config)
    with path.open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        while reader.count < _PARSED_LINES and file.tell() < _PARSED_BYTES:
            line = file.readline(_LONGEST_LINE)
            if not line:
                break
            reader.read(line)
        while reader.count < wanted and file.readline(_LONGEST_LINE):
            reader.count += 1
        if file.tell() < size:
            reader.read_last(_last_line(file.fileno(), size))
    return Examples(reader.count, tuple(reader.problems), reader.style)


def _last_line(fd: int, size: int) -> bytes | None:
    """Return the last line; None when it is longer than what is looked at."""
    tail = os.pread(fd, min(size, _TAIL_BYTES), max(0, size - _TAIL_BYTES))
    body = tail.removesuffix(b"\n")
    start = body.rfind(b"\n")
    return body[start + 1 :] if start >= 0 else None


class _Reader:
    def __init__(self, name: str, config: Mapping[str, Any]) -> None:
        self.count = 0
        self.problems: list[str] = []
        self.style: str | None = None
        self._name = name
        self._features = {role: str(config.get(key) or default) for role, (key, default) in _FEATURES.items()}

    def read(self, line: bytes) -> None:
        """Check the next line."""
        self.count += 1
        column, message = self._judge(line)
        if message:
            self.problems.append(f"{self._name}:{self.count}:{column}: {message}")

    def read_last(self, line: bytes | None) -> None:
        """Check the last line of a file that was not read to its end."""
        message = self._judge(line)[1] if line is not None else ""
        if message:
            self.problems.append(f"{self._name}: the last line: {message} (was the file copied to its end?)")

    def _judge(self, line: bytes) -> tuple[int, str]:
        """Return the column and what is wrong with a line; an empty text when nothing is."""
        try:
            example = _parse(line)
        except json.JSONDecodeError as error:
            return error.colno, f"not JSON: {error.msg}"
        except UnicodeDecodeError as error:
            return error.start + 1, "not UTF-8"
        except (ValueError, RecursionError) as error:  # also a number of 5000 digits, brackets without end
            return 1, str(error)
        return 1, self._fields(example)

    def _fields(self, example: Mapping[str, Any]) -> str:
        if self.style is None:
            self.style = self._style(example)
            if self.style is None:
                wanted = f'"{self._features["text"]}", "{self._features["chat"]}", or "{self._features["prompt"]}" and '
                return f'expected {wanted}"{self._features["completion"]}", found {", ".join(map(repr, example))[:120]}'
        roles = ("prompt", "completion") if self.style == "completions" else (self.style,)
        for key in (self._features[role] for role in roles):
            if key not in example:
                return f'no "{key}", which the first line has'
            if self.style == "text" and not isinstance(example[key], str):
                return f'"{key}" is not text'
            if self.style == "chat" and not _is_chat(example[key]):
                return f'"{key}" is not a list of messages'
        return ""

    def _style(self, example: Mapping[str, Any]) -> str | None:
        if self._features["prompt"] in example and self._features["completion"] in example:
            return "completions"
        return next((role for role in ("chat", "text") if self._features[role] in example), None)


def _parse(line: bytes) -> dict[str, Any]:
    if len(line) >= _LONGEST_LINE and not line.endswith(b"\n"):
        raise ValueError(f"a line of more than {_LONGEST_LINE:,} bytes")
    if not line.strip():
        raise ValueError("an empty line, which mlx-lm cannot read: remove it")
    example = json.loads(line.decode("utf-8").rstrip("\r\n"))
    if not isinstance(example, dict):
        raise ValueError("expected a JSON object {...}")  # noqa: TRY004 - one kind of error for what is wrong in a line
    return example


def _is_chat(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(message, dict) for message in value)


def _presence(folder: Path, sets: Mapping[str, Examples], *, test: bool) -> Check:
    if not sets["train"].count:
        return Check("data", "fail", f"{folder / 'train.jsonl'} is empty", "one JSON object a line", _KEY)
    if not sets.get("valid") or not sets["valid"].count:
        fix = "put examples aside in valid.jsonl to see whether the model learns more than it memorises"
        return Check("data", "warn", f"{folder} holds no valid.jsonl: it trains without validation", fix, _KEY)
    if test and (not sets.get("test") or not sets["test"].count):
        return Check("data", "warn", f"{folder} holds no test.jsonl: the test at the end will fail", "add it", _KEY)
    return Check("data", "pass", f"{folder}: {', '.join(f'{name}.jsonl' for name in sets)}", key=_KEY)


def _format(sets: Mapping[str, Examples], config: Mapping[str, Any]) -> Check:
    problems = [problem for examples in sets.values() for problem in examples.problems]
    if config.get("mask_prompt") and sets["train"].style == "text":
        problems.append("train.jsonl: mask_prompt is set, but text has no prompt to mask: mlx-lm refuses it")
    if not problems:
        style = sets["train"].style or "no examples"
        return Check("data-format", "pass", f"{style}, as far as the files were read", key=_KEY)
    more = f" (and {len(problems) - _SHOWN} more)" if len(problems) > _SHOWN else ""
    return Check("data-format", "fail", "; ".join(problems[:_SHOWN]) + more, "correct the lines", _KEY)


def _batch(sets: Mapping[str, Examples], wanted: int) -> Check:
    for name, examples in sets.items():
        if 0 < examples.count < wanted:
            verdict = "warn" if name == "test" else "fail"
            detail = f"a batch has {wanted} examples, {name}.jsonl only {examples.count}: mlx-lm refuses that"
            fix = f"batch_size: {examples.count} or less (with grad_accumulation_steps for the same effective batch)"
            return Check("batch-size", verdict, detail, fix, ("batch_size",))  # type: ignore[arg-type]  # widened to str
    return Check("batch-size", "pass", f"batches of {wanted}", key=("batch_size",))
