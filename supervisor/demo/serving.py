"""A real daemon for a while, and runs that are followed to their end: what demonstrations and trials are made with."""

import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from stoker.supervisor.errors import StokerError
from stoker.supervisor.paths import Home
from stoker.supervisor.review.story import progress_line
from stoker.supervisor.store.read import Reader

_LOOK_S = 0.25
_LIMIT_S = 1200.0  # a machine far slower than any we know; then the demonstration has failed, not the machine
_ENDED = {"completed", "failed", "cancelled", "held"}

Say = Callable[[str], None]


def need_compiler() -> None:
    """Raise StokerError where mlx could not train for want of a compiler."""
    if sys.platform == "linux" and not (shutil.which("g++") or shutil.which("clang++") or shutil.which("c++")):
        raise StokerError("there is no C++ compiler: mlx's CPU backend needs one", hint="apt-get install g++")


@contextmanager
def serving(home: Home, output: Path) -> Iterator[None]:
    """Run a real daemon of `home` for as long as the block lasts; its own words go to `output`.

    Raises:
        StokerError: it does not start.
    """
    argv = [sys.executable, "-m", "stoker.supervisor", "--home", str(home.dir), "run"]
    with output.open("wb") as out:
        process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=out, stderr=out, start_new_session=True)
        try:
            _wait_ready(home, process, output)
            yield
        finally:
            process.terminate()
            process.wait()


def run_job(home: Home, job: Path, say: Say) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Submit a job, follow it to its end, and return the reader's `show()` and `decisions()`.

    Raises:
        StokerError: it was refused, or does not end.
    """
    from stoker.supervisor.cli.submit import submit_file

    verdict, _ = submit_file(home, job)
    if not verdict["accepted"]:
        problems = "; ".join(str(error.get("message", error)) for error in verdict["errors"])
        raise StokerError(f"Stoker's own job {job} was refused: {problems}")
    run_id, said, deadline = verdict["run_id"], "", time.monotonic() + _LIMIT_S
    while time.monotonic() < deadline:
        with Reader(home) as reader:
            shown = reader.show(run_id)
            line = progress_line(shown)
            if line != said:
                say(f"  {line}")
                said = line
            if shown["state"] in _ENDED:
                return shown, reader.decisions(run_id)
        time.sleep(_LOOK_S)
    raise StokerError(
        f"{run_id} has not ended within {_LIMIT_S:.0f} s", hint=f"stoker --home {home.dir} explain {run_id}"
    )


def _wait_ready(home: Home, process: "subprocess.Popen[bytes]", output: Path) -> None:
    from stoker.supervisor.instance import running_pid

    deadline = time.monotonic() + 60
    while running_pid(home.lock) is None:
        if process.poll() is not None or time.monotonic() > deadline:
            raise StokerError("the daemon did not start", hint=output.read_text(errors="replace")[-2000:])
        time.sleep(0.05)
