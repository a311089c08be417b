"""`stoker submit`: hand a job file to the daemon; with the daemon down, to the queue it will find."""

import json
import sys
import time
from pathlib import Path
from typing import Annotated, Any

import typer

from stoker.supervisor.errors import DaemonNotRunningError, JobError, RunFailedError, UsageError
from stoker.supervisor.paths import Home

_LOOK_S = 0.5
_ENDED = {"completed", "failed", "cancelled"}


def submit(
    context: typer.Context,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A job: any mlx-lm configuration.")],
    wait: Annotated[
        bool, typer.Option("--wait", help="Wait for the end; exit 5 when the run does not complete.")
    ] = False,
    follow: Annotated[bool, typer.Option("--follow", help="Wait, and show the progress.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
) -> None:
    """Submit a job; prints the run id, or everything that is wrong with it."""
    home: Home = context.obj
    verdict, running = submit_file(home, file)
    _print(verdict, as_json=as_json, running=running)
    if not verdict["accepted"]:
        raise typer.Exit(JobError.exit_code)
    if wait or follow:
        if not running:
            raise DaemonNotRunningError(
                f"no daemon runs for {home.dir}: {verdict['run_id']} waits in the queue", hint="start it: stoker run"
            )
        _wait(home, verdict["run_id"], follow=follow and not as_json)


def submit_file(home: Home, file: Path) -> tuple[dict[str, Any], bool]:
    """Return the verdict of DESIGN section 6, and whether a daemon gave it.

    Raises:
        UsageError: the file cannot be read.
        StokerError: the daemon does not answer.
    """
    from stoker.supervisor.instance import running_pid

    try:
        data = file.read_bytes()
    except OSError as error:
        raise UsageError(
            f"cannot read {file}: {error.strerror}", hint="stoker submit FILE takes one YAML file"
        ) from error
    if len(data) > 1_000_000:
        raise UsageError(f"{file} is {len(data) / 1e6:.1f} MB; a job file is at most 1 MB")
    home.create()
    if running_pid(home.lock) is None:
        return _admit(home, file, data), False
    from stoker.supervisor.cli.asking import ask

    payload = {
        "text": data.decode("utf-8", "surrogateescape"),
        "file": file.name,
        "base_dir": str(file.absolute().parent),
    }
    return ask(home, "submit", payload), True


def _admit(home: Home, file: Path, data: bytes) -> dict[str, Any]:
    """Judge and queue the job without a daemon: the run's folder and row are what the next daemon finds."""
    from stoker.supervisor.clock import SystemClock
    from stoker.supervisor.jobs import Submission, admit
    from stoker.supervisor.settings import load_settings
    from stoker.supervisor.store.write import Store

    clock = SystemClock()
    store = Store(home, clock)
    try:
        submission = Submission(data, file.name, file.absolute().parent)
        min_free = load_settings(home.settings).disk.min_free
        return admit(home, store, clock, submission, min_free_gb=min_free).as_json()
    finally:
        store.close()


def _print(verdict: dict[str, Any], *, as_json: bool, running: bool) -> None:
    if as_json:
        print(json.dumps({key: verdict[key] for key in ("run_id", "accepted", "errors", "warnings")}))
        return
    for problem in verdict["warnings"]:
        print(f"warning: {_line(problem)}", file=sys.stderr)
    if verdict["accepted"]:
        print(verdict["run_id"])
        if not running:
            print("queued; no daemon runs now: it starts with `stoker run` or `stoker install`", file=sys.stderr)
        return
    for problem in verdict["errors"]:
        print(_line(problem), file=sys.stderr)


def _line(problem: dict[str, Any]) -> str:
    meant = f" (did you mean {problem['nearest']}?)" if problem["nearest"] else ""
    return f"{problem['file']}:{problem['line']}:{problem['column']}: {problem['message']}{meant}"


def _wait(home: Home, run_id: str, *, follow: bool) -> None:
    from stoker.supervisor.review.story import progress_line
    from stoker.supervisor.store.read import Reader

    said = ""
    while True:
        with Reader(home) as reader:
            shown = reader.show(run_id)
        line = progress_line(shown)
        if follow and line != said:
            print(line, flush=True)
            said = line
        if shown["state"] in _ENDED:
            break
        if shown["state"] == "held" and shown["release"] == "person":
            raise RunFailedError(f"{run_id} is held: {shown['reason']}", hint=f"stoker explain {run_id}")
        time.sleep(_LOOK_S)
    if shown["state"] != "completed":
        raise RunFailedError(f"{run_id} {shown['state']}: {shown['reason']}", hint=f"stoker explain {run_id}")
