"""How the system's own tools are run: argv lists, no shell, always with a time limit."""

import os
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

NOT_FOUND = 127  # as a shell says it
TIMED_OUT = 124  # as timeout(1) says it


@dataclass(frozen=True, slots=True)
class Completed:
    """What came of a command.

    Attributes:
        code: exit status; 127 = no such program, 124 = ended because it took too long.
        out, err: what it printed.
    """

    code: int
    out: str = ""
    err: str = ""

    @property
    def said(self) -> str:
        """Its words on one line, for messages; its exit status when it had none."""
        return " ".join((self.err or self.out).split()) or f"exit status {self.code}"


class Run(Protocol):
    """Runs a command to its end."""

    def __call__(self, argv: Sequence[str], *, timeout_s: float = 60.0) -> Completed:
        """Return what came of it; never raises for a command that fails, hangs or does not exist."""
        ...


def run_command(argv: Sequence[str], *, timeout_s: float = 60.0) -> Completed:
    """Run `argv` with the messages of the C locale, which are the ones that are parsed."""
    try:
        done = subprocess.run(
            list(argv),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=timeout_s,
            check=False,
            env={**os.environ, "LC_ALL": "C", "SYSTEMD_COLORS": "0", "SYSTEMD_PAGER": ""},
        )
    except subprocess.TimeoutExpired:
        return Completed(TIMED_OUT, err=f"{argv[0]} did not end within {timeout_s:.0f} s")
    except OSError as error:
        return Completed(NOT_FOUND, err=f"cannot run {argv[0]}: {error.strerror}")
    return Completed(done.returncode, done.stdout, done.stderr)


@dataclass(frozen=True, slots=True)
class Patience:
    """Waiting, with a clock that tests can replace.

    Attributes:
        now: seconds of a clock that never goes back.
        sleep: waits that many seconds.
    """

    now: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep

    def until(self, condition: Callable[[], bool], *, timeout_s: float, every_s: float = 0.25) -> bool:
        """Return True as soon as `condition()` holds, False when it does not within the time."""
        end = self.now() + timeout_s
        while not condition():
            if self.now() >= end:
                return False
            self.sleep(every_s)
        return True
