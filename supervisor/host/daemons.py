"""Which daemons of Stoker run on this machine, whatever their home."""

from collections.abc import Iterator
from pathlib import Path

import psutil


def processes() -> Iterator[tuple[int, list[str]]]:
    """Return pid and command line of every process; a command line that may not be read is empty."""
    for process in psutil.process_iter(["pid", "cmdline"]):
        yield process.info["pid"], process.info["cmdline"] or []


def is_daemon(argv: list[str]) -> bool:
    """Return whether this is the command line of a daemon: `stoker run` or `python -m stoker.supervisor run`."""
    for i, part in enumerate(argv[:4]):
        if Path(part).name == "stoker" or (part == "stoker.supervisor" and argv[i - 1] == "-m"):
            rest = iter(argv[i + 1 :])
            for word in rest:
                if word == "--home":
                    next(rest, None)
                elif not word.startswith("-"):
                    return word == "run"
    return False
