"""A stand-in for a trainer: `standin_trainer.py JOURNAL RUN_ID ATTEMPT [OPTION...]`, run by path with `python -I -S`.

It records its own starts and ends in JOURNAL, one JSON object a line, with the monotonic clock that all processes of
the machine share. That record, and not the store, is what tests believe.

Options: --seconds S (how long it works), --exit CODE, --signal NAME (die of it), --until FILE (work until FILE is
there), --ignore-term, --grandchild S (leave a process of its group behind that works on for S seconds),
--stray S (leave one in a session of its own), --text LINE (print it before the end), --once (fail only in attempt 1).
"""

import json
import os
import signal
import sys
import time

journal, run_id, attempt, *options = sys.argv[1:]


def option(name: str, default: str = "") -> str:
    """Return the word after `--name`."""
    return options[options.index(name) + 1] if name in options else default


def note(what: str, **more: object) -> None:
    """Append a line with a single write, so that concurrent trainers never interleave."""
    row = {"what": what, "run": run_id, "attempt": int(attempt), "pid": os.getpid(), "t": time.monotonic(), **more}
    fd = os.open(journal, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    os.write(fd, (json.dumps(row) + "\n").encode())
    os.close(fd)


def stopped(number: int, _frame: object) -> None:
    """Answer SIGTERM."""
    note("signal", number=number)
    if "--ignore-term" not in options:
        note("end", code=128 + number)
        os._exit(128 + number)


def leave_behind(seconds: float, *, own_session: bool) -> None:
    """Start a process that outlives this one."""
    pid = os.fork()
    if pid:
        note("left", child=pid)
        return
    if own_session:
        os.setsid()
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    time.sleep(seconds)
    os._exit(0)


signal.signal(signal.SIGTERM, stopped)
note("start")
if "--grandchild" in options:
    leave_behind(float(option("--grandchild")), own_session=False)
if "--stray" in options:
    leave_behind(float(option("--stray")), own_session=True)
deadline = time.monotonic() + float(option("--seconds", "0"))
until = option("--until")
while time.monotonic() < deadline or (until and not os.access(until, os.F_OK)):
    time.sleep(0.01)
if "--text" in options:
    print(option("--text"), flush=True)
troubled = "--once" not in options or attempt == "1"
code = int(option("--exit", "0")) if troubled else 0
if troubled and "--signal" in options:
    note("end", signal=option("--signal"))
    number = signal.Signals[option("--signal")]
    signal.signal(number, signal.SIG_DFL) if number is not signal.SIGKILL else None
    os.kill(os.getpid(), number)
    time.sleep(60)
note("end", code=code)
os._exit(code)
