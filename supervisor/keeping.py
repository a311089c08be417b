"""Moving checkpoints out of the way: quarantine for bad ones, superseded for those that a rewind left behind."""

import contextlib
import json
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path

from stoker.recovery.checkpoint.choose import Candidate, candidates, eligible
from stoker.supervisor.files import read_lines, sync_folder, write_atomic
from stoker.supervisor.paths import RunPaths


def quarantine(paths: RunPaths, rejected: Iterable[tuple[Candidate, tuple[str, ...]]]) -> list[str]:
    """Move checkpoints that failed verification to quarantine/, each with its problems beside it; return their names."""
    moved = []
    for candidate, problems in rejected:
        paths.quarantine.mkdir(mode=0o700, exist_ok=True)
        with contextlib.suppress(FileNotFoundError):  # moved before a crash of ours
            candidate.path.rename(_free(paths.quarantine / candidate.name))
            moved.append(candidate.name)
        note = paths.quarantine / f"{candidate.name}.problems.txt"
        write_atomic(note, ("\n".join(problems) + "\n").encode())
    if moved:
        sync_folder(paths.checkpoints)
    return moved


def supersede(paths: RunPaths, starts: Mapping[int, int], adapter: Path | None) -> list[str]:
    """Move what a rewind left behind to superseded/aN/: checkpoints, and numbered files in the adapter folder.

    To be called after the new attempt's row is committed: from then on the rule of lineage excludes them anyway, and a
    crash in the middle only leaves the rest for the next call.
    """
    moved = []
    for candidate in candidates(paths.checkpoints):
        if not eligible(candidate, starts):
            target = paths.superseded / f"a{candidate.attempt}"
            target.mkdir(mode=0o700, parents=True, exist_ok=True)
            candidate.path.rename(_free(target / candidate.name))
            moved.append(candidate.name)
    newest = max(starts, default=0)
    for attempt, iteration, file in _numbered(paths, newest):
        abandoned = any(iteration > start for n, start in starts.items() if n > attempt)
        if abandoned and adapter is not None and file.parent == adapter and file.exists():
            target = paths.superseded / f"a{attempt}"
            target.mkdir(mode=0o700, parents=True, exist_ok=True)
            shutil.move(file, _free(target / file.name))  # the adapter folder may be on another volume than the home
            moved.append(file.name)
    return moved


def _numbered(paths: RunPaths, newest: int) -> list[tuple[int, int, Path]]:
    """Return (attempt, iteration, path) of the numbered files that earlier attempts reported; a later report wins."""
    owner: dict[Path, tuple[int, int, Path]] = {}
    for n in range(1, newest):
        for row in read_lines(paths.attempt(n).metrics):
            if row.get("kind") == "save" and row.get("path"):
                file = Path(row["path"])
                owner[file] = (n, int(row["iteration"]), file)
    return list(owner.values())


def _free(path: Path) -> Path:
    """Return `path`, or `path.2`, `path.3` ... where that name is taken."""
    candidate, n = path, 1
    while candidate.exists():
        n += 1
        candidate = path.with_name(f"{path.name}.{n}")
    return candidate


def move_aside(adapter: Path, stamp: str) -> Path | None:
    """Move existing adapter files of a person to PATH/previous-TIME/; return that folder, or None when there are none."""
    if not adapter.is_dir():
        return None
    files = [f for f in sorted(adapter.iterdir()) if f.name.endswith(".safetensors") or f.name == "adapter_config.json"]
    if not files:
        return None
    target = _free(adapter / f"previous-{stamp}")
    target.mkdir()
    for file in files:
        file.rename(target / file.name)
    (target / "moved.json").write_text(json.dumps({"from": str(adapter), "files": [f.name for f in files]}) + "\n")
    return target
