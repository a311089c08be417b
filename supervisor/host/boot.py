"""Which boot this is, and whether a pid is still the process it was.

A pid alone names nothing: it is used again. The pair of pid and start token, within one boot, names one process.
"""

import sys
from pathlib import Path

import psutil

from stoker.supervisor.host.command import run_command

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
_ENDED = {"Z", "X", "x"}  # states of /proc/PID/stat: a zombie runs nothing any more
# macOS: psutil moves create_time when the clock is set, relative to the boot time that it saw when it was imported, so
# two lives of the daemon can disagree by the size of the step. Another process can only have the pid *and* a start time
# this near if all 99,998 pids were used in between.
_TOLERANCE_S = 60.0


def boot_id(*, platform: str = sys.platform) -> str:
    """Return a name of the current boot that no other boot has; "" where the system does not tell."""
    if platform != "darwin":
        try:
            return _BOOT_ID.read_text(encoding="ascii").strip()
        except OSError:
            return ""
    answer = run_command(["sysctl", "-n", "kern.bootsessionuuid"])
    return answer.out.strip() if answer.code == 0 else ""


def process_start(pid: int, *, platform: str = sys.platform) -> str | None:
    """Return an opaque token of when `pid` started; None when no such process runs (a zombie does not run)."""
    if platform == "linux":
        return _linux_start(pid)
    try:
        process = psutil.Process(pid)
        if process.status() == psutil.STATUS_ZOMBIE:
            return None
        return f"{process.create_time():.6f}"
    except psutil.Error:
        return None


def same_process(pid: int, token: str | None, *, platform: str = sys.platform) -> bool:
    """Return whether `pid` is the running process that had this token. An unknown token is never the same."""
    now = process_start(pid, platform=platform)
    if token is None or now is None:
        return False
    if platform == "linux":
        return now == token
    try:
        return abs(float(now) - float(token)) <= _TOLERANCE_S
    except ValueError:
        return False


def _linux_start(pid: int) -> str | None:
    """Return field 22 of /proc/PID/stat: the start in clock ticks since the boot."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_bytes()
    except OSError:
        return None
    # The command name (field 2) stands in parentheses and may hold anything, parentheses and spaces included.
    fields = stat[stat.rfind(b")") + 2 :].decode("ascii", "replace").split()
    state, start = fields[0], fields[19]
    return None if state in _ENDED else start
