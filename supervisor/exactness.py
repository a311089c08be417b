"""HOME/exactness.json: what `stoker doctor --exact` found on this machine, one verdict for each set of versions.

A verdict: {"machine": {"device", "system", "versions"}, "exact": bool, "at", "kinds": {KIND: {"stock": [sha256, sha256],
"ours": sha256}}}.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from stoker.supervisor.files import read_json, write_json

_KEPT = 20  # they travel in each launch.json; versions of long ago do not come back


def read_verdicts(path: Path) -> list[dict[str, Any]]:
    """Return the verdicts, oldest first; none where the file is missing or damaged: then the machine is unproved."""
    verdicts = (read_json(path) or {}).get("verdicts")
    return [verdict for verdict in verdicts if isinstance(verdict, dict)] if isinstance(verdicts, list) else []


def keep_verdict(path: Path, verdict: Mapping[str, Any]) -> None:
    """Add a verdict in place of an older one on the same machine.

    Raises:
        OSError: it cannot be written.
    """
    others = [known for known in read_verdicts(path) if known.get("machine") != verdict["machine"]]
    write_json(path, {"v": 1, "verdicts": [*others, verdict][-_KEPT:]})


def newest_verdict(path: Path, system: str, versions: Mapping[str, str]) -> dict[str, Any] | None:
    """Return the newest verdict under this system and these versions, on whatever device of this machine it was."""
    wanted = {"system": system, "versions": dict(versions)}
    found = [
        verdict
        for verdict in read_verdicts(path)
        if isinstance(machine := verdict.get("machine"), dict) and {key: machine.get(key) for key in wanted} == wanted
    ]
    return found[-1] if found else None
