"""One attempt's processes: start the shim, find it again, signal it."""

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import psutil

from stoker.supervisor.files import read_json
from stoker.supervisor.host.boot import same_process
from stoker.supervisor.paths import AttemptPaths

_SHIM = Path(__file__).with_name("shim.py")


@dataclass(frozen=True, slots=True)
class Processes:
    """Who was started for an attempt, from run.json; a pid of 0 is not known (yet)."""

    shim_pid: int
    shim_token: str | None
    trainer_pid: int
    trainer_token: str | None

    @property
    def shim_alive(self) -> bool:
        """Whether the shim itself still runs, not a later process with its pid."""
        return bool(self.shim_pid) and same_process(self.shim_pid, self.shim_token)

    @property
    def trainer_alive(self) -> bool:
        """Whether the trainer itself still runs."""
        return bool(self.trainer_pid) and same_process(self.trainer_pid, self.trainer_token)

    @property
    def survivor(self) -> tuple[int, str | None]:
        """The process whose end is the attempt's end, and its token: the shim, else the trainer; (0, None) for nobody."""
        if self.shim_alive:
            return self.shim_pid, self.shim_token
        return (self.trainer_pid, self.trainer_token) if self.trainer_alive else (0, None)


def start(attempt: AttemptPaths, lease_fd: int, environment: Mapping[str, str]) -> "subprocess.Popen[bytes]":
    """Start the shim of an attempt whose launch.json is written; the lease descriptor goes with it.

    Raises:
        OSError: the shim cannot be started (no process, no memory).
    """
    with attempt.shim_log.open("ab") as log:
        return subprocess.Popen(
            [sys.executable, "-I", "-S", str(_SHIM), str(attempt.dir)],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            env={**environment, "STOKER_LEASE_FD": str(lease_fd)},
            pass_fds=(lease_fd,),
            start_new_session=True,
            cwd="/",
        )


def find(attempt: AttemptPaths) -> Processes | None:
    """Return who was started for the attempt; None when no shim has claimed it."""
    row = read_json(attempt.run)
    if row is None:
        return None
    return Processes(
        shim_pid=int(row.get("shim_pid") or 0),
        shim_token=row.get("shim_token"),
        trainer_pid=int(row.get("trainer_pid") or 0),
        trainer_token=row.get("trainer_token"),
    )


def signal_attempt(attempt: AttemptPaths, number: signal.Signals) -> bool:
    """Send SIGTERM, SIGUSR1 or SIGKILL to the attempt's trainer; False when nobody could be identified.

    The shim sends it, since the parent of a process cannot hit a stranger; without a shim the trainer's group gets it
    after its identity was checked.
    """
    processes = find(attempt)
    if processes is None:
        return False
    if processes.shim_alive and (processes.trainer_alive or not processes.trainer_pid):
        number = signal.SIGUSR2 if number is signal.SIGKILL else number
        with contextlib.suppress(ProcessLookupError):
            os.kill(processes.shim_pid, number)
            return True
    if processes.trainer_alive:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(processes.trainer_pid, number)
            return True
    return False


def sweep(attempt: AttemptPaths, number: signal.Signals) -> None:
    """Signal what is left of the trainer's group when neither shim nor trainer lives any more.

    A group keeps its number for as long as it has members, so without a process of that pid the number is either the
    trainer's old group or nobody's.
    """
    processes = find(attempt)
    if processes is None or not processes.trainer_pid or psutil.pid_exists(processes.trainer_pid):
        return
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(processes.trainer_pid, number)
