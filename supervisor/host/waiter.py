"""Wait until a process that need not be ours has ended: `python -I -S waiter.py PID`.

Stands under systemd-inhibit, which keeps the machine awake as long as its command lives. It wakes up once, at the end.
Run by path, so it imports only the standard library.
"""

import os
import select
import sys
import time

_POLL_S = 30.0  # on kernels without pidfd_open (before 5.3)


def wait(pid: int) -> None:
    """Return when no process `pid` runs any more; at once when there is none."""
    try:
        fd = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    except (AttributeError, OSError):
        while _exists(pid):
            time.sleep(_POLL_S)
        return
    try:
        select.select([fd], [], [])
    finally:
        os.close(fd)


def _exists(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


if __name__ == "__main__":
    wait(int(sys.argv[1]))
