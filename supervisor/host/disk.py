"""How much room a volume has."""

import os
from pathlib import Path


def free_bytes(path: Path) -> int:
    """Return the bytes that this user may still write on the volume of `path`, which need not exist yet.

    macOS counts purgeable space (local snapshots, caches) as used here; that errs on the safe side.

    Raises:
        OSError: not even a parent of `path` can be read.
    """
    for folder in (path, *path.parents):
        try:
            facts = os.statvfs(folder)
        except FileNotFoundError:
            continue
        return facts.f_bavail * facts.f_frsize
    raise FileNotFoundError(path)
