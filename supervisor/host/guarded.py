"""Folders that macOS keeps from services (TCC): a service gets "Operation not permitted" there, or hangs."""

from pathlib import Path

_BELOW_HOME = ("Documents", "Desktop", "Downloads", "Library/Mobile Documents", "Library/CloudStorage")


def guarded_by(path: Path, user_home: Path) -> Path | None:
    """Return the guarded folder that `path` lies in, links not followed; None when it lies in none.

    `/Volumes` is among them: external and network drives, which also appear late after a login.
    """
    places = (*(user_home / name for name in _BELOW_HOME), Path("/Volumes"))
    folded = [part.casefold() for part in path.parts]  # the volumes of a Mac do not tell cases apart
    for place in places:
        parts = [part.casefold() for part in place.parts]
        if folded[: len(parts)] == parts:
            return place
    return None
