"""The result of a preflight check, and what an error of the file system means for a person."""

import difflib
import errno
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

Verdict = Literal["pass", "warn", "fail", "overridden"]
_MOUNTS = ("/Volumes", "/mnt", "/media", "/run/media")
_MANY = 2000  # entries of a folder in which a similar name is looked for


@dataclass(frozen=True, slots=True)
class Check:
    """One check of a job against this machine.

    Attributes:
        name: short, with dashes; what `stoker: {preflight: {allow: [...]}}` names.
        detail: what was found.
        fix: what to do about it; empty when nothing is wrong.
        key: path of the key in the job file that it is about.
    """

    name: str
    verdict: Verdict
    detail: str
    fix: str = ""
    key: tuple[str | int, ...] = ()

    def as_json(self) -> dict[str, Any]:
        """Return the shape that `check --json` prints."""
        return {"name": self.name, "verdict": self.verdict, "detail": self.detail, "fix": self.fix}


def explain_access(error: OSError, path: Path) -> tuple[str, str]:
    """Return what stands in the way of `path`, and what to do, in words."""
    fix = ""
    match error.errno:
        case errno.ENOENT | errno.ENOTDIR:
            detail, fix = _missing(path)
        case errno.EPERM if sys.platform == "darwin":
            detail = f"macOS does not let this program read {path} (Operation not permitted)"
            fix = (
                "allow it in System Settings > Privacy & Security > Full Disk Access, for the terminal or the Python "
                "that runs Stoker, or move the files out of Desktop, Documents and Downloads"
            )
        case errno.EPERM:
            detail = f"the system forbids access to {path} (Operation not permitted)"
            fix = "look at the file's flags: lsattr"
        case errno.EACCES:
            closed = _closed(path)
            detail, fix = f"this user may not read {closed} (Permission denied)", f"look at it: ls -ld {closed}"
        case errno.EIO | errno.ESTALE | errno.ENOTCONN | errno.ETIMEDOUT | errno.EHOSTDOWN:
            detail = f"the disk or network share of {path} does not answer ({error.strerror})"
            fix = "mount it again"
        case errno.ELOOP:
            detail, fix = f"{path} is a link that leads to itself", f"look at it: ls -l {path}"
        case _:
            detail = f"{path} cannot be read: {error.strerror}"
    return detail, fix


def in_bytes(size: int) -> str:
    """Return a size in GB, a small one in MB."""
    return f"{size / 1e9:,.1f} GB" if size >= 50_000_000 else f"{size / 1e6:,.2f} MB"


def _missing(path: Path) -> tuple[str, str]:
    """Say which part of a path is not there: an unmounted volume, a misspelt name, a file where a folder should be."""
    here, below = Path("/"), path
    for parent in (path, *path.parents):
        if os.path.lexists(parent):
            here = parent
            break
        below = parent
    if here.is_symlink():
        target = os.path.realpath(here)
        return f"{here} is a link to {target}, which is not there", "mount the volume, or correct the link"
    if not os.path.isdir(here):  # noqa: PTH112 - Path.is_dir raises where a parent is closed
        return f"{here} is a file, so {path} cannot be there", "correct the path"
    if _is_mount_point(here):
        return f"{below} is not mounted, so {path} is not there", "mount the volume, then submit again"
    similar = _similar(here, below.name)
    what = f"{path} does not exist" if below == path else f"{path} does not exist: there is no {below.name} in {here}"
    return what, f"correct the path: did you mean {similar}?" if similar else "correct the path"


def _is_mount_point(folder: Path) -> bool:
    text = str(folder)
    return text in _MOUNTS or any(
        text.startswith(f"{place}/") and folder.parent == Path(place) for place in _MOUNTS[2:]
    )


def _similar(folder: Path, name: str) -> Path | None:
    try:
        with os.scandir(folder) as entries:
            names = [entry.name for entry, _ in zip(entries, range(_MANY), strict=False)]
    except OSError:
        return None
    close = difflib.get_close_matches(name, names, n=1, cutoff=0.8) if len(name) <= 100 else []
    return folder / close[0] if close else None


def _closed(path: Path) -> Path:
    """Return the outermost part of a path that this user may not pass."""
    for parent in (*reversed(path.parents), path):
        if not os.access(parent, os.R_OK if parent == path else os.X_OK):
            return parent
    return path
