"""Keep the machine awake while a trainer lives, by a small process bound to the trainer's pid.

The inhibitor ends by itself with the trainer, whether or not a daemon is there to see it. It is a courtesy: where it is
missing or refused, training goes on just the same.
"""

import shutil
import subprocess
import sys
from pathlib import Path

from stoker.supervisor.host import waiter

_WHY = "training is running"


def inhibitor_argv(pid: int, *, platform: str = sys.platform, search: str | None = None) -> tuple[str, ...] | None:
    """Return the command that keeps the machine awake until `pid` ends; None where there is no such tool.

    macOS: -i no idle sleep, -m disks stay on, -s no system sleep on mains power, -w until the process ends. Never -d
    or -u: an awake display makes the GPU watchdog (ImpactingInteractivity) kill long kernels.

    Args:
        pid: the trainer.
        platform: as `sys.platform`.
        search: as $PATH; None = the process's own.
    """
    if platform == "darwin":
        caffeinate = shutil.which("caffeinate", path=search)
        return (caffeinate, "-i", "-m", "-s", "-w", str(pid)) if caffeinate else None
    inhibit = shutil.which("systemd-inhibit", path=search)
    if inhibit is None:
        return None
    options = ("--what=sleep:idle", "--who=stoker", f"--why={_WHY}", "--mode=block")
    return (inhibit, *options, "--", sys.executable, "-I", "-S", str(Path(waiter.__file__)), str(pid))


def start_inhibitor(pid: int) -> subprocess.Popen[bytes] | None:
    """Start the inhibitor for the trainer `pid`; None where there is none.

    A refusal (no session bus, a policy that forbids it) shows as an inhibitor that ends at once; nothing else happens.
    It inherits no descriptor: a lease that it held would outlive the trainer. The caller keeps what is returned and
    calls `poll()` on it now and then, so that it is reaped.
    """
    argv = inhibitor_argv(pid)
    if argv is None:
        return None
    nowhere = subprocess.DEVNULL
    try:
        return subprocess.Popen(
            argv, cwd="/", stdin=nowhere, stdout=nowhere, stderr=nowhere, close_fds=True, start_new_session=True
        )
    except OSError:
        return None  # not executable, no more processes: not worth a word to a training that has just started
