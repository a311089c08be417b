"""`stoker logs RUN`: what the trainer printed, or prints."""

import os
import re
import sys
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from stoker.supervisor.errors import StokerError, UsageError
from stoker.supervisor.paths import Home, RunPaths
from stoker.supervisor.review.follow import attempts_on_disk, follow
from stoker.supervisor.review.logs import LogLine, Wanted, end_of_log
from stoker.supervisor.states import ENDED

if TYPE_CHECKING:
    from stoker.supervisor.store.read import Reader

_LINES = 100
_STATE = 1.0  # seconds between two looks at the run's state while following


def logs(
    context: typer.Context,
    run: Annotated[str, typer.Argument(metavar="RUN", help="A run's id, the beginning of it, or its name.")],
    following: Annotated[
        bool, typer.Option("--follow", "-f", help="Go on, across attempts, until the run ends.")
    ] = False,
    attempt: Annotated[int, typer.Option("--attempt", help="N; 0 = the newest, -1 = the one before it.")] = 0,
    grep: Annotated[
        str | None, typer.Option("--grep", "-g", help="Only lines in which this expression is found.")
    ] = None,
    lines: Annotated[int | None, typer.Option("-n", min=0, help=f"The last so many lines. Default: {_LINES}.")] = None,
    raw: Annotated[bool, typer.Option("--raw", help="The bytes as they were printed.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON document; with -f one object a line.")] = False,
) -> None:
    """What the trainer printed, or prints (-f); the newest attempt unless you say which."""
    from stoker.supervisor.store.read import Reader

    home: Home = context.obj
    wanted = Wanted(_expression(grep), _LINES if lines is None and grep is None else lines)
    with Reader(home) as reader:
        run_id = reader.find(run)
        source = RunSource(reader, run_id, home.run(run_id))
        try:
            if following:
                only = _chosen(source, attempt) if attempt else None
                _print(follow(source, wanted, pause=time.sleep, only=only), raw=raw, as_json=as_json, live=True)
                return
            number = _chosen(source, attempt)
            found = end_of_log(source.log(number), number, wanted)
            if as_json:
                _document(run_id, number, source.log(number), found)
            else:
                _print(found, raw=raw, as_json=False, live=False)
        except KeyboardInterrupt:
            return
        except BrokenPipeError:  # `| head` has seen enough; Python must not complain when it flushes at the end
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


@dataclass(slots=True)
class RunSource:
    """What following needs to know, from the run's folder and the store."""

    reader: "Reader"
    run_id: str
    paths: RunPaths
    _state: str = ""
    _looked: float = field(default=-_STATE)

    def attempts(self) -> list[int]:
        """See Source."""
        return attempts_on_disk(self.paths)

    def log(self, attempt: int) -> Path:
        """See Source."""
        return self.paths.attempt(attempt).log

    def over(self, attempt: int) -> bool:
        """See Source."""
        return self.paths.attempt(attempt).exit.exists() or max(self.attempts(), default=0) > attempt or self.ended()

    def ended(self) -> bool:
        """See Source; says on stderr when the run comes to wait for something."""
        now = time.monotonic()
        if self._state not in ENDED and now - self._looked >= _STATE:
            self._looked, before = now, self._state
            document = self.reader.show(self.run_id)
            self._state = str(document["state"])
            if self._state in {"held", "waiting", "queued", "blocked"} and self._state != before:
                from stoker.supervisor.review.status import progress_line

                print(f"stoker: {progress_line(document)}", file=sys.stderr)
        return self._state in ENDED


def _chosen(source: RunSource, attempt: int) -> int:
    """Return the attempt that is meant by N, 0 or -N."""
    present = source.attempts()
    if not present:
        raise StokerError(
            f"{source.run_id} has no log yet: no attempt was made",
            hint=f"why it waits: stoker show {source.run_id}    or wait for it: stoker logs -f {source.run_id}",
        )
    if attempt > 0 and attempt in present:
        return attempt
    if attempt <= 0 and len(present) > -attempt:
        return present[attempt - 1]
    raise UsageError(f"{source.run_id} has no attempt {attempt}", hint=f"it has {', '.join(map(str, present))}")


def _expression(text: str | None) -> re.Pattern[str] | None:
    try:
        return None if text is None else re.compile(text)
    except re.error as error:
        raise UsageError(
            f"--grep: {text!r} is not a regular expression: {error}", hint="put a backslash before . * + ? ( ) [ ] { }"
        ) from error


def _print(lines: Iterable[LogLine], *, raw: bool, as_json: bool, live: bool) -> None:
    """Print the lines, `live` ones as they come; where the attempt changes, stderr says so."""
    from stoker.supervisor.review.console import colours, forgive

    forgive()
    colour, attempt = colours(), None
    for line in lines:
        if attempt is not None and line.attempt != attempt:
            print(f"stoker: attempt {line.attempt}", file=sys.stderr)
        attempt = line.attempt
        if raw:
            sys.stdout.buffer.write(line.raw + b"\n")
        else:
            print(_dumps(line) if as_json else line.text(colour=colour))
        if live:
            sys.stdout.flush()


def _dumps(line: LogLine) -> str:
    from stoker.supervisor.review.document import dumps

    return dumps({"attempt": line.attempt, "line": line.number, "text": line.text()}, indent=None)


def _document(run_id: str, attempt: int, file: Path, lines: Iterable[LogLine]) -> None:
    from stoker.supervisor.review.document import dumps

    found = [{"line": line.number, "text": line.text()} for line in lines]
    print(dumps({"run_id": run_id, "attempt": attempt, "file": str(file), "lines": found}))
