"""The inbox: job files that people drop. Scanning is the truth; file events only wake the daemon sooner.

A file is taken when it looks finished: a whole document that nobody has touched for a moment. What can never become a
job (a folder, a link, something unreadable) is answered at once. Editors' temporary files are not looked at.
"""

import contextlib
import os
import stat
from dataclasses import dataclass
from pathlib import Path

import structlog

from stoker.supervisor.clock import Clock
from stoker.supervisor.files import sync_folder, write_atomic

_log = structlog.get_logger("inbox")
_ENDINGS = (".yaml", ".yml")
_SETTLE_S = 0.15  # a finished write: the text ends a line and size and time stand still for this long
_OPEN_END_S = 1.0  # the last line has no end: the writer may be in the middle of it
_BROKEN_S = 3.0  # not yet a job: give a slow writer this long before the file is rejected
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
    refused: bool = False  # judged once and found broken; waits for a change or for its time


class Inbox:
    """Watches folders for job files."""

    def __init__(self, folders: tuple[Path, ...], clock: Clock) -> None:
        self._folders = folders
        self._clock = clock
        self._seen: dict[Path, _Seen] = {}

    @property
    def waiting(self) -> bool:
        """Whether a file is being waited for, so that the next scan should come soon."""
        return bool(self._seen)

    def scan(self) -> list[Drop]:
        """Return the files that are ready, oldest first."""
        now = self._clock.continuous()
        found: list[tuple[float, Drop]] = []
        present = set()
        for folder in self._folders:
            for path, info in _listing(folder):
                present.add(path)
                drop = self._look(path, info, now)
                if drop is not None:
                    found.append((info.st_mtime, drop))
        self._seen = {path: seen for path, seen in self._seen.items() if path in present}
        return [drop for _, drop in sorted(found, key=lambda pair: pair[0])]

    def _look(self, path: Path, info: os.stat_result, now: float) -> Drop | None:
        if problem := _hopeless(info):
            return Drop(path, b"", problem)
        signature = (info.st_ino, info.st_size, info.st_mtime_ns)
        seen = self._seen.get(path)
        if seen is None or seen.signature != signature:
            seen = self._seen[path] = _Seen(signature, now)
        # A file that was moved here was finished before it came.
        age = max(now - seen.since, self._clock.wall() - max(info.st_mtime, info.st_ctime))
        if age < _SETTLE_S or (seen.refused and age < _BROKEN_S):
            return None
        try:
            data = path.read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            return Drop(path, b"", f"cannot be read: {error.strerror}")
        if not data.endswith(b"\n") and age < _OPEN_END_S:
            return None
        return Drop(path, data)

    def again_later(self, drop: Drop) -> bool:
        """Note that a drop is not a job as it stands; True when it may still be in the middle of being written."""
        seen = self._seen.get(drop.path)
        if seen is None or drop.problem is not None:
            return False
        if seen.refused or self._clock.continuous() - seen.since >= _BROKEN_S:
            return False
        seen.refused = True
        return True


def _listing(folder: Path) -> list[tuple[Path, os.stat_result]]:
    found = []
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                if entry.name.endswith(_ENDINGS) and not entry.name.startswith((".", "#", "~", "_tmp")):
                    with contextlib.suppress(FileNotFoundError):
                        found.append((Path(entry.path), entry.stat(follow_symlinks=False)))
    except OSError as error:
        _log.warning("inbox_not_readable", folder=str(folder), error=str(error))
    return found


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
        return f"is {info.st_size / 1e6:.1f} MB; a job file is at most {MAX_BYTES / 1e6:.0f} MB"
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
