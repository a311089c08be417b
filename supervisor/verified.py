"""Verification results, remembered for a minute while the files do not change."""

import time
from pathlib import Path

from stoker.recovery.checkpoint.verify import Verdict, verify

_FRESH_S = 60.0  # an attempt that dies is followed by the next within seconds; later the files are read again

Signature = tuple[tuple[str, int, int, int], ...]


class Verified:
    """Full verification of checkpoints, without reading 24 GB twice between an exit and the next start."""

    def __init__(self) -> None:
        self._seen: dict[Path, tuple[float, Signature, Verdict]] = {}

    def verdict(self, path: Path) -> Verdict:
        """Return the full verdict on a checkpoint folder."""
        signature = _signature(path)
        known = self._seen.get(path)
        if known is not None and known[1] == signature and time.monotonic() - known[0] < _FRESH_S:
            return known[2]
        verdict = verify(path)
        self._seen = {p: row for p, row in self._seen.items() if time.monotonic() - row[0] < _FRESH_S}
        self._seen[path] = (time.monotonic(), signature, verdict)
        return verdict


def _signature(path: Path) -> Signature:
    try:
        entries = sorted(path.iterdir())
        stats = [(entry.name, entry.stat()) for entry in entries]
    except OSError:
        return ()
    return tuple((name, s.st_size, s.st_mtime_ns, s.st_ino) for name, s in stats)
