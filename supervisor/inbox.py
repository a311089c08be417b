"""The inbox: job files that people drop. Scanning is the truth; file events only wake the daemon sooner.

A file is taken when it looks finished: a whole document that nobody has touched for a moment. What can never become a
job (a folder, a link, something unreadable) is answered at once. Editors' temporary files are not looked at.
"""

import contextlib
import itertools
import os
import stat
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import structlog

from stoker.supervisor.clock import Clock
from stoker.supervisor.files import sync_folder, write_atomic

_log = structlog.get_logger("inbox")
_ENDINGS = (".yaml", ".yml")
_SETTLE_S = 0.1  # a finished write: the text ends a line and size and time stand still for this long
_OPEN_END_S = 1.0  # the last line has no end: the writer may be in the middle of it
_LEAST_S = 0.01  # between two looks
_MOVED_S = 0.6  # watchdog holds all events back for half a second after a file was moved out, as each taken one is:
_LIVELY_S = 0.05  # for that time the folder is looked at so often
_RETRY_S = 2.0  # a drop that could not be taken or rejected (a full disk) is tried again
_BROKEN_S = 3.0  # not yet a job: give a slow writer this long before the file is rejected
_BATCH = 50  # files in one round
MAX_BYTES = 1_000_000


@dataclass(frozen=True, slots=True)
class Drop:
    """A file that is ready to be judged: its content, or why it cannot be read."""

    path: Path
    data: bytes
    problem: str | None = None


@dataclass(slots=True)
class _Seen:
    signature: tuple[int, int, int]
    since: float
    due: float = 0.0  # when it is worth looking at again
    refused: bool = False  # judged once and found broken; waits for a change or for its time


def folders(own: Path, more: Iterable[Path]) -> tuple[Path, ...]:
    """Return the folders to watch, each once; those that are not there are made where that is possible."""
    named = [own, *(own.parent / path.expanduser() for path in more)]
    for folder in named:
        with contextlib.suppress(OSError):  # an unmounted volume is looked for again at each scan
            folder.mkdir(parents=True, exist_ok=True)
    return tuple({os.path.realpath(folder): folder for folder in reversed(named)}.values())[::-1]


class Inbox:
    """Watches folders for job files."""

    def __init__(self, folders: tuple[Path, ...], clock: Clock) -> None:
        self._folders = folders
        self._clock = clock
        self._seen: dict[Path, _Seen] = {}
        self._lively_until = 0.0
        self._missing: set[Path] = set()  # folders that could not be read and were named in the log

    @property
    def waiting(self) -> bool:
        """Whether a file is being waited for, so that the next scan should come soon."""
        return bool(self._seen)

    def due_s(self) -> float | None:
        """Seconds until the next scan can find a file ready that is being waited for; None when none is."""
        now = self._clock.continuous()
        soonest = min((max(0.0, seen.due - now) for seen in self._seen.values()), default=None)
        if now < self._lively_until:
            return _LIVELY_S if soonest is None else min(soonest, _LIVELY_S)
        return soonest

    def scan(self) -> list[Drop]:
        """Return files that are ready, oldest first; of very many the first, so that the daemon's loop goes round."""
        now = self._clock.continuous()
        listed = sorted(
            (entry for folder in self._folders for entry in self._listing(folder)),
            key=lambda entry: entry[1].st_mtime,
        )
        present = {path for path, _ in listed}
        self._seen = {path: seen for path, seen in self._seen.items() if path in present}
        looks = (self._look(path, info, now) for path, info in listed)
        return list(itertools.islice((drop for drop in looks if drop is not None), _BATCH))

    def _look(self, path: Path, info: os.stat_result, now: float) -> Drop | None:
        if problem := _hopeless(info):
            return Drop(path, b"", problem)
        signature = (info.st_ino, info.st_size, info.st_mtime_ns)
        seen = self._seen.get(path)
        if seen is None or seen.signature != signature:
            seen = self._seen[path] = _Seen(signature, now)
        # A file that was finished before it was moved here has been left alone since it was last written.
        age = max(now - seen.since, self._clock.wall() - info.st_mtime)
        wanted = _BROKEN_S if seen.refused else _SETTLE_S
        seen.due = now + max(_LEAST_S, wanted - age)
        if age < wanted:
            return None
        try:
            data = path.read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            return Drop(path, b"", f"cannot be read: {error.strerror}")
        if not data.endswith(b"\n") and age < _OPEN_END_S:
            seen.due = now + _OPEN_END_S - age
            return None
        seen.due = now + _RETRY_S  # if it is still here then, taking it has failed
        return Drop(path, data)

    def again_later(self, drop: Drop) -> bool:
        """Note that a drop is not a job as it stands; True when it may still be in the middle of being written."""
        seen = self._seen.get(drop.path)
        if seen is None or drop.problem is not None:
            return False
        if seen.refused or self._clock.continuous() - seen.since >= _BROKEN_S:
            return False
        seen.refused = True
        seen.due = seen.since + _BROKEN_S
        return True

    def done(self, drop: Drop) -> None:
        """Note that a drop was taken or rejected: nobody waits for it any more."""
        self._seen.pop(drop.path, None)
        self._lively_until = self._clock.continuous() + _MOVED_S

    def _listing(self, folder: Path) -> list[tuple[Path, os.stat_result]]:
        found = []
        try:
            with os.scandir(folder) as entries:
                for entry in entries:
                    if is_job_name(entry.name):
                        with contextlib.suppress(FileNotFoundError):
                            found.append((Path(entry.path), entry.stat(follow_symlinks=False)))
        except OSError as error:
            if folder not in self._missing:
                _log.warning("inbox_not_readable", folder=str(folder), error=str(error))
            self._missing.add(folder)
        else:
            self._missing.discard(folder)
        return found


def is_job_name(name: str) -> bool:
    """Whether a file of this name may be a job; editors' temporary files are not."""
    return name.lower().endswith(_ENDINGS) and not name.startswith((".", "#", "~", "_tmp"))


def _hopeless(info: os.stat_result) -> str | None:
    if stat.S_ISLNK(info.st_mode):
        return "is a symbolic link; drop the file itself, or: stoker submit FILE"
    if stat.S_ISDIR(info.st_mode):
        return "is a folder; a job is one YAML file"
    if not stat.S_ISREG(info.st_mode):
        return "is not a regular file"
    if not info.st_mode & stat.S_IRUSR:
        return "has no read permission for its owner: chmod u+r"
    if info.st_size > MAX_BYTES:
        return f"has {info.st_size:,} bytes; a job file has at most {MAX_BYTES:,}"
    return None


def reject(path: Path, answer: str) -> Path:
    """Move a file that cannot become a job to rejected/ beside its answer; return where it is now.

    Raises:
        OSError: the folder cannot be written; the file stays where it is.
    """
    folder = path.parent / "rejected"
    folder.mkdir(mode=0o700, exist_ok=True)
    target, n = folder / path.name, 1
    while target.exists() or target.is_symlink() or (folder / f"{target.name}.error.txt").exists():
        n += 1
        target = folder / f"{path.stem}.{n}{path.suffix}"
    write_atomic(folder / f"{target.name}.error.txt", answer.encode())
    path.rename(target)
    sync_folder(folder)
    return target
