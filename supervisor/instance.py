"""One daemon per home: daemon.lock, held by flock for as long as the daemon lives and never passed on."""

import fcntl
import os
import time
from pathlib import Path

from stoker.supervisor.errors import StokerError

_PATIENCE_S = 1.0  # a reader that asks whether the daemon runs holds the lock for an instant


class Instance:
    """The lock of the one daemon."""

    def __init__(self, path: Path) -> None:
        """Take the lock.

        Raises:
            StokerError: another daemon has it.
        """
        self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        deadline = time.monotonic() + _PATIENCE_S
        while True:
            try:
                fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > deadline:
                    os.close(self._fd)
                    pid = running_pid(path)
                    raise StokerError(
                        f"a daemon already serves {path.parent} (pid {pid or 'unknown'})",
                        hint="stoker status shows it; another home: stoker --home DIR run",
                    ) from None
                time.sleep(0.02)
        os.ftruncate(self._fd, 0)
        os.pwrite(self._fd, f"{os.getpid()}\n".encode(), 0)

    def close(self) -> None:
        """Let go of the lock."""
        os.close(self._fd)


def running_pid(path: Path) -> int | None:
    """Return the pid of the daemon that holds the lock; None when no daemon runs."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        text = os.pread(fd, 32, 0).strip()
        return int(text) if text.isdigit() else 0
    else:
        return None
    finally:
        os.close(fd)
