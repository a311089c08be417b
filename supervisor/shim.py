"""The shim: parent of one trainer, so that its exit is never lost. Standard library only, started with `python -I -S`.

`shim.py ATTEMPT_DIR` reads launch.json, starts the trainer in a session of its own with stdout and stderr in
train.log, writes run.json, waits, empties the trainer's process group, writes exit.json and ends. The daemon may die at
any time: the shim holds the inherited lease (an open flock) and needs nobody. Signals: SIGTERM and SIGINT are passed on
to the trainer's group, SIGUSR1 (dump stacks) to the trainer, SIGUSR2 kills the group.

Exits with 111, writing no exit.json, when this attempt was started before (run.json exists).
"""

import contextlib
import errno
import json
import os
import signal
import sys
import time

TYPE_CHECKING = False  # typing itself costs start-up time and memory
if TYPE_CHECKING:
    import resource
    from typing import Any

VERSION = 1
REFUSED = 111
SWEEP_GRACE_S = 5.0  # what is left of the group gets this long between SIGTERM and SIGKILL


def hit(point: str, attempt: int) -> None:
    """Die here when a test asks for it; see failpoints.py, which this file cannot import."""
    if f"shim.{point}:kill@{attempt}" in os.environ.get("STOKER_FAILPOINTS", ""):
        os.kill(os.getpid(), signal.SIGKILL)


def write_durable(path: str, value: "dict[str, object]") -> None:
    """Write JSON by temp, fsync, rename, fsync of the folder; retry while the disk is full."""
    temp = path + ".tmp"
    data = (json.dumps(value) + "\n").encode()
    delay = 0.1
    while True:
        try:
            fd = os.open(temp, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
            try:
                os.write(fd, data)
                os.fsync(fd)
            finally:
                os.close(fd)
            os.rename(temp, path)
            folder = os.open(os.path.dirname(path), os.O_RDONLY)
            try:
                os.fsync(folder)
            finally:
                os.close(folder)
        except OSError as error:
            if error.errno not in {errno.ENOSPC, errno.EDQUOT, errno.EIO}:
                raise
            time.sleep(delay)
            delay = min(delay * 2, 30.0)
        else:
            return


def start_token(pid: int) -> str | None:
    """Return what tells this process, just started, from a later one with the same pid.

    Linux: its start in clock ticks since the boot. macOS has no /proc; there the wall clock now, at its start, is near
    enough (host.boot compares within a minute).
    """
    if sys.platform == "darwin":
        return f"{time.time():.6f}"
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            return file.read().rpartition(b")")[2].split()[19].decode()
    except OSError:
        return None


def spawn(launch: "dict[str, Any]", folder: str) -> int:
    """Start the trainer in its own session; the lease descriptor stays open in it."""
    lease = int(os.environ["STOKER_LEASE_FD"])
    os.set_inheritable(lease, True)
    flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT
    return os.posix_spawnp(
        launch["argv"][0],
        launch["argv"],
        os.environ,
        file_actions=[
            (os.POSIX_SPAWN_OPEN, 0, "/dev/null", os.O_RDONLY, 0),
            (os.POSIX_SPAWN_OPEN, 1, os.path.join(folder, "train.log"), flags, 0o600),
            (os.POSIX_SPAWN_DUP2, 1, 2),
        ],
        setsid=True,
        setsigmask=[],
        setsigdef=[signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGPIPE, signal.SIGUSR2],
    )


def kill_group(pid: int, number: int) -> bool:
    """Signal the trainer's process group; False when nobody is left in it."""
    try:
        os.killpg(pid, number)
    except (ProcessLookupError, PermissionError):  # macOS answers EPERM for a group of zombies
        return False
    return True


def sweep(pid: int) -> None:
    """Empty the trainer's group after its leader has ended: SIGTERM, a grace, SIGKILL."""
    if not kill_group(pid, signal.SIGTERM):
        return
    deadline = time.monotonic() + SWEEP_GRACE_S
    while time.monotonic() < deadline:
        if not kill_group(pid, 0):
            return
        time.sleep(0.05)
    kill_group(pid, signal.SIGKILL)


def wait(pid: int) -> "tuple[int, resource.struct_rusage]":
    """Wait for the trainer; signals that arrive meanwhile are passed on by their handlers."""
    while True:
        try:
            _, status, usage = os.wait4(pid, 0)
        except InterruptedError:
            continue
        return status, usage


def signal_name(number: int) -> str:
    """Return SIGKILL for 9; most real-time signals have no name."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"SIG{number}"


def outcome(status: int, usage: "resource.struct_rusage") -> "dict[str, object]":
    """Turn a wait status into the fields of exit.json."""
    killed = os.WIFSIGNALED(status)
    return {
        "code": None if killed else os.WEXITSTATUS(status),
        "signal": signal_name(os.WTERMSIG(status)) if killed else None,
        "rusage": {"utime": usage.ru_utime, "stime": usage.ru_stime, "maxrss": usage.ru_maxrss},
        "error": None,
    }


def record_start(folder: str, pid: int, launch: "dict[str, Any]") -> None:
    """Write run.json: who was started, for the daemon that adopts."""
    write_durable(
        os.path.join(folder, "run.json"),
        {
            "v": VERSION, "shim_pid": os.getpid(), "shim_token": start_token(os.getpid()),
            "trainer_pid": pid, "trainer_token": start_token(pid) if pid else None,
            "started_at": time.time(), "attempt": launch["attempt"], "run_id": launch["run_id"],
        },
    )  # fmt: skip


def main(folder: str) -> int:
    """Run one attempt to its end."""
    if os.path.exists(os.path.join(folder, "run.json")):
        return REFUSED
    with open(os.path.join(folder, "launch.json"), encoding="utf-8") as file:
        launch = json.load(file)
    forwarded: dict[int, int] = {
        signal.SIGTERM: signal.SIGTERM, signal.SIGINT: signal.SIGTERM, signal.SIGUSR2: signal.SIGKILL,
    }  # fmt: skip
    pending: list[int] = []
    child = 0

    def forward(number: int, _frame: object) -> None:
        if not child:
            pending.append(number)
        elif number == signal.SIGUSR1:
            with contextlib.suppress(ProcessLookupError):
                os.kill(child, signal.SIGUSR1)
        else:
            kill_group(child, forwarded[number])

    for number in (*forwarded, int(signal.SIGUSR1)):
        signal.signal(number, forward)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    started, attempt = time.time(), launch["attempt"]
    hit("start", attempt)
    record_start(folder, 0, launch)  # claims the attempt: no second shim will start it
    hit("claimed", attempt)
    # SIGUSR1 stays ignored in the trainer until it has a handler: a stack dump asked too early must not kill it.
    signal.signal(signal.SIGUSR1, signal.SIG_IGN)
    try:
        os.chdir(launch["cwd"])
        child = spawn(launch, folder)
    except OSError as error:
        result: dict[str, object] = {
            "code": 127,
            "signal": None,
            "rusage": {},
            "error": f"cannot start {launch['argv'][0]}: {error}",
        }
        with contextlib.suppress(OSError), open(os.path.join(folder, "train.log"), "a", encoding="utf-8") as log:
            log.write(f"stoker: config_error: {result['error']}\n")
    else:
        hit("spawned", attempt)
        signal.signal(signal.SIGUSR1, forward)
        for number in pending:
            forward(number, None)
        record_start(folder, child, launch)
        hit("named", attempt)
        status, usage = wait(child)
        hit("ended", attempt)
        result = outcome(status, usage)
        sweep(child)
    ended: dict[str, object] = {"v": VERSION, "started_at": started, "ended_at": time.time(), **result}
    write_durable(os.path.join(folder, "exit.json"), ended)
    hit("recorded", attempt)
    return 0


if __name__ == "__main__":
    sys.exit(main(os.path.abspath(sys.argv[1])))
