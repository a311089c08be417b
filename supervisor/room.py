"""Room on the disk for a run's next checkpoint: measured, made by deleting what nobody resumes from, and told in words.

The same measure decides whether an attempt may start and when a run that waits for room goes on.
"""

import json
import os
import shutil
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import structlog

from stoker.recovery.checkpoint.choose import Candidate, candidates, eligible
from stoker.recovery.checkpoint.manifest import ManifestError, parse_name, read
from stoker.recovery.checkpoint.room import Expendable, Room
from stoker.supervisor.checks import in_bytes
from stoker.supervisor.context import Context
from stoker.supervisor.host.disk import free_bytes
from stoker.supervisor.paths import RunPaths

_log = structlog.get_logger("room")


def measure(ctx: Context, run: sqlite3.Row) -> Room:
    """Return the room for the run's next attempt.

    Raises:
        OSError: the home cannot be read.
    """
    paths, job = ctx.home.run(run["run_id"]), json.loads(run["job"])
    onward = json.loads(run["next"]) if run["next"] else {}
    found = candidates(paths.checkpoints)
    starts = {row["n"]: row["from_iteration"] for row in ctx.store.attempts(run["run_id"])}
    target = int(onward.get("target") or 0)
    lineage = [c for c in found if c.iteration <= target and eligible(c, starts)]
    overridden = "disk-space" in (job["stoker"].get("preflight") or {}).get("allow", ())
    estimate = 0 if overridden else int(job.get("checkpoint_bytes") or 0)
    return Room(
        free=free_bytes(ctx.home.dir),
        kept_free=ctx.settings.min_free_bytes,
        checkpoint=max(_committed(found) or estimate, int(onward.get("needs") or 0)),
        own=_size(paths.staging) + sum(_size(c.path) for c in lineage[1:]),
        expendable=tuple(_expendable(paths, [c.path for c in reversed(found) if c not in lineage])),
    )


def make_room(ctx: Context, run: sqlite3.Row) -> Room:
    """Return the room for the run's next attempt, after deleting what has to go for it; nothing when that cannot help."""
    room = measure(ctx, run)
    doomed = room.deletions()
    if not doomed:
        return room
    for item in doomed:
        _delete(ctx, run["run_id"], item)
    return measure(ctx, run)


def words(room: Room) -> str:
    """Return `12.1 GB free, 26.0 GB wanted: 2.0 GB kept free + 24.0 GB for a checkpoint`."""
    if not room.checkpoint:
        return f"{in_bytes(room.free)} free, {in_bytes(room.kept_free)} must stay free (disk.min_free)"
    parts = [f"{in_bytes(room.kept_free)} kept free (disk.min_free)"] if room.kept_free else []
    parts.append(f"{in_bytes(room.checkpoint)} for a checkpoint")
    text = f"{in_bytes(room.free)} free, {in_bytes(room.wanted)} wanted: {' + '.join(parts)}"
    if room.own:
        text += f" - {in_bytes(room.own)} that older checkpoints give back"
    if room.expendable:
        size = in_bytes(sum(item.size for item in room.expendable))
        text += f" ({size} in superseded and quarantine would not be enough)"
    return text


def _committed(found: tuple[Candidate, ...]) -> int:
    """Return the size of the newest checkpoint, as its manifest says; 0 when there is none."""
    for candidate in found:
        try:
            return sum(facts.size for facts in read(candidate.path).files.values())
        except ManifestError:
            continue
    return 0


def _expendable(paths: RunPaths, abandoned: list[Path]) -> Iterator[Expendable]:
    """Yield what a past that was given up left behind, then bad checkpoints but the newest; each oldest first.

    `abandoned` are checkpoints that the next attempt does not stand on; its start would move them to superseded/.
    """
    for folder in sorted(_entries(paths.superseded), key=lambda folder: _number(folder.name[1:])):
        yield from (Expendable(entry, _size(entry)) for entry in sorted(_entries(folder)))
    yield from (Expendable(entry, _size(entry)) for entry in abandoned)
    bad = [entry for entry in _entries(paths.quarantine) if entry.is_dir()]  # beside the notes of their problems
    yield from (Expendable(entry, _size(entry)) for entry in sorted(bad, key=_age)[:-1])


def _age(entry: Path) -> tuple[int, int, str]:
    """Return a key that sorts checkpoints by when they were written."""
    iteration, attempt = parse_name(entry.name.partition(".")[0]) or (0, 0)
    return attempt, iteration, entry.name


def _delete(ctx: Context, run_id: str, item: Expendable) -> None:
    """Delete something and say so; what stands beside a bad checkpoint about its problems stays."""
    paths = ctx.home.run(run_id)
    name = item.path.relative_to(paths.dir)
    with ctx.store.transaction():  # before it happens: nothing is ever deleted silently
        text = f"{name} ({in_bytes(item.size)}) is deleted to make room for the next checkpoint"
        ctx.store.event(run_id, "pruned", text, path=str(name), bytes=item.size)
    _log.info("pruned", run=run_id, path=str(name), bytes=item.size)
    try:
        paths.staging.mkdir(mode=0o700, exist_ok=True)
        doomed = paths.staging / f"pruned-{item.path.name}"
        shutil.rmtree(doomed, ignore_errors=True)  # a crash in the middle of an earlier one
        item.path.rename(doomed)  # out of sight in one step: what is half deleted is never taken for a checkpoint
        shutil.rmtree(doomed) if doomed.is_dir() else doomed.unlink()
    except OSError as error:
        _log.warning("not_deleted", run=run_id, path=str(item.path), error=str(error))


def _entries(folder: Path) -> list[Path]:
    try:
        return list(folder.iterdir())
    except (FileNotFoundError, NotADirectoryError):
        return []


def _number(text: str) -> int:
    return int(text) if text.isdecimal() else 0


def _size(path: Path) -> int:
    """Return the bytes of a file, or of all files below a folder; what vanishes meanwhile counts nothing."""
    if path.is_dir():
        return sum(_size(Path(place, name)) for place, _, names in os.walk(path) for name in names)
    try:
        return path.stat().st_size
    except OSError:
        return 0
