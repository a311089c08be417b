"""Admission: a job file becomes a run, or an answer that says all that is wrong with it.

The order of the claim survives any crash: the run's folder and admission.json, then the file itself moves in, both
folders are flushed, then the row. What has a folder but no row is admitted again at start-up (`unfinished`).
"""

import contextlib
import errno
import json
import os
import re
import shutil
import sqlite3
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from stoker.profiles.job import Job, Problem
from stoker.profiles.resolve import Cadence, checkpoint_keep
from stoker.profiles.schema import StokerKeys
from stoker.profiles.yaml_positions import parse
from stoker.supervisor.clock import Clock
from stoker.supervisor.failpoints import hit
from stoker.supervisor.files import read_json, rename_durable, sync_folder, write_atomic, write_json
from stoker.supervisor.paths import Home, RunPaths
from stoker.supervisor.preflight import Appraisal, Surroundings, appraise
from stoker.supervisor.states import ENDED, State
from stoker.supervisor.store.write import Store

_SLUG = re.compile(r"[^a-z0-9]+")
_ADMISSION = "admission.json"
_CLAIM_S = 60.0  # a claim without its file that is older than this came to nothing


@dataclass(frozen=True, slots=True)
class Submission:
    """A job file and where it comes from.

    Attributes:
        data: its bytes.
        file: how the person calls it.
        base_dir: where relative paths start; None for a plain drop.
        source: a name that a repeated claim of the same submission has again; None: always a new run.
        path: the dropped file, which moves into the run's folder; None: the data is written there.
    """

    data: bytes
    file: str
    base_dir: Path | None
    source: str | None = None
    path: Path | None = None


@dataclass(frozen=True, slots=True)
class Verdict:
    """The answer to a submission."""

    run_id: str | None
    errors: tuple[Problem, ...] = ()
    warnings: tuple[Problem, ...] = ()

    def as_json(self) -> dict[str, Any]:
        """Return the shape of `submit --json`."""
        return {
            "run_id": self.run_id,
            "accepted": self.run_id is not None,
            "errors": [problem.as_json() for problem in self.errors],
            "warnings": [problem.as_json() for problem in self.warnings],
        }

    def as_text(self) -> str:
        """Return the answer as it stands beside a rejected file."""
        lines = [str(problem) for problem in self.errors]
        lines += [f"warning: {problem}" for problem in self.warnings]
        return "\n".join([*lines, "", "Correct the file and drop it again, or see: stoker check FILE", ""])


def judge(home: Home, min_free_gb: float, data: bytes, file: str, base_dir: Path | None) -> Appraisal:
    """Return the verdict on a job file, for a run that has no folder yet."""
    around = Surroundings.of(home.dir, home.run("NEW").dir, min_free=int(min_free_gb * 1e9))
    return appraise(data, file=file, base_dir=base_dir, around=around)


def admit(home: Home, store: Store, clock: Clock, submission: Submission, *, min_free_gb: float) -> Verdict:
    """Judge a submission and, when it is good, make it a run; `min_free_gb` stays free on the disk.

    Raises:
        OSError: the home cannot be written (a full disk); nothing is lost: the submission is still where it was.
    """
    if submission.source is not None:
        row = store.db.execute("SELECT run_id FROM runs WHERE source = ?", (submission.source,)).fetchone()
        if row is not None:
            return Verdict(row["run_id"])
    appraisal = judge(home, min_free_gb, submission.data, submission.file, submission.base_dir)
    warnings = appraisal.warnings
    job, resolved = appraisal.job, appraisal.resolved
    errors = appraisal.errors or (conflicts(store, job) if job else ())
    if job is None or resolved is None or errors:
        return Verdict(None, errors, warnings)
    paths = _folder(home, clock, job.name)
    base_dir = job.stoker.base_dir or (str(submission.base_dir) if submission.base_dir else None)
    note = {"file": submission.file, "base_dir": base_dir, "source": submission.source, "path": submission.path}
    try:
        write_json(paths.dir / _ADMISSION, note)
        hit("daemon.claim.noted")
        if submission.path is not None:
            _move_in(submission.path, paths)
        else:
            write_atomic(paths.submitted, submission.data)
    except OSError:
        with contextlib.suppress(OSError):
            _discard(paths.dir)
        raise
    hit("daemon.claim.moved")
    _insert(store, paths, submission.data, appraisal, submission.source, base_dir)
    return Verdict(paths.dir.name, (), warnings)


def _move_in(file: Path, paths: RunPaths) -> None:
    """Move a dropped file into its run's folder, from another volume too."""
    try:
        rename_durable(file, paths.submitted)
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        # Out of sight first: what is half copied when the daemon dies must not be taken a second time.
        rename_durable(file, _aside(file, paths))
        _copy_aside(file, paths)


def _aside(file: Path, paths: RunPaths) -> Path:
    """Return where a file from another volume waits, unseen, until its copy is in the run's folder."""
    return file.with_name(f".{paths.dir.name}.claimed")


def _copy_aside(file: Path, paths: RunPaths) -> None:
    aside = _aside(file, paths)
    hit("daemon.claim.aside")
    write_atomic(paths.submitted, aside.read_bytes())
    aside.unlink()


def _folder(home: Home, clock: Clock, name: str) -> RunPaths:
    """Make the run's folder; making it is what allocates the id, also between daemon and command line."""
    when = datetime.fromtimestamp(clock.wall()).astimezone().strftime("%Y%m%d_%H%M")
    slug = _SLUG.sub("_", name.lower()).strip("_")[:60] or "job"
    n = 1
    while True:
        run_id = f"{slug}_{when}" if n == 1 else f"{slug}_{when}_{n}"
        try:
            home.run(run_id).dir.mkdir(mode=0o700, parents=True)
        except FileExistsError:
            n += 1
            continue
        sync_folder(home.runs)
        return home.run(run_id)


def _insert(
    store: Store, paths: RunPaths, data: bytes, appraisal: Appraisal, source: str | None, base_dir: str | None
) -> None:
    """Freeze the job in its folder, as it was judged, and insert its row."""
    job, resolved = appraisal.job, appraisal.resolved
    assert job is not None
    assert resolved is not None
    write_atomic(paths.job, data)
    config = dict(resolved.config)
    if "adapter_path" not in job.config:
        config["adapter_path"] = str(paths.adapter)  # judged with the folder of a run that had no id yet
    if job.row.interpreter is not None and config.get("resume_adapter_file"):
        config["resume_adapter_file"] = str(_copy_in(paths, Path(config["resume_adapter_file"])))
    for folder in (paths.checkpoints, paths.staging, paths.attempts):
        folder.mkdir(mode=0o700, exist_ok=True)
    record = job_record(appraisal, config, base_dir)
    store.insert_run(
        {
            "run_id": paths.dir.name,
            "name": job.name,
            "source": source,
            "state": State.QUEUED,
            "reason": "waits for a free slot",
            "priority": job.stoker.priority,
            "trainer": job.row.name,
            "job": json.dumps(record, default=str),
            "adapter_key": adapter_key(config.get("adapter_path")),
            "iters": config.get("iters"),
            "adjustments": json.dumps([{"attempt": 1, **a} for a in resolved.adjustments]),
        }
    )


def job_record(appraisal: Appraisal, config: Mapping[str, Any], base_dir: str | None) -> dict[str, Any]:
    """Return what the store keeps of a judged job, with the final `config`; values of environment variables stay out."""
    job, resolved = appraisal.job, appraisal.resolved
    assert job is not None
    assert resolved is not None
    stoker = job.stoker.model_dump(mode="json", exclude={"env", "checkpoint"})
    stoker["env_names"] = sorted(job.stoker.env)
    given = (job.document.value or {}).get("stoker") or {}
    stoker["checkpoint"] = {"every": "auto", "keep": "auto", **(given.get("checkpoint") or {})}  # as a person writes it
    return {
        "config": dict(config),
        "provenance": resolved.provenance,
        "stoker": stoker,
        "base_dir": base_dir,
        "test": resolved.test,
        "every": (resolved.every or Cadence(None, None)).as_json(),
        "keep": appraisal.need.keep if appraisal.need else checkpoint_keep(job, None),
        "checkpoint_bytes": appraisal.need.checkpoint if appraisal.need else None,
        "checks": [check.as_json() for check in appraisal.checks if check.verdict != "pass"],
    }


def _copy_in(paths: RunPaths, file: Path) -> Path:
    """Copy the adapter that the job starts from: it must not change, or go, while the run lives."""
    target = paths.dir / "start_adapters.safetensors"
    shutil.copyfile(file, target)
    return target


def adapter_key(path: Any) -> str:
    """Return what two writers of one adapter folder have in common: the real path, case-folded."""
    return os.path.realpath(path).casefold() if path else ""


def conflicts(store: Store, job: Job) -> tuple[Problem, ...]:
    """Refuse a job whose adapter folder belongs to a run that has not ended, or that waits for itself."""
    found = []
    if owner := adapter_owner(store, adapter_key(job.config.get("adapter_path"))):
        text = f"adapter_path belongs to the run {owner}, which has not ended; name another folder"
        found.append(job.problem(("adapter_path",), text))
    if way := circle(store, job):
        found.append(job.problem(("stoker", "needs"), f"needs go round in a circle: {' -> '.join(way)}"))
    return tuple(found)


def adapter_owner(store: Store, key: str, besides: str = "") -> str | None:
    """Return the run, other than `besides`, that has not ended and writes this adapter folder."""
    marks = ", ".join("?" for _ in ENDED)
    row = store.db.execute(
        f"SELECT run_id FROM runs WHERE adapter_key = ? AND run_id != ? AND state NOT IN ({marks})",  # noqa: S608 - only question marks
        (key, besides, *ENDED),
    ).fetchone()
    return str(row["run_id"]) if row is not None and key else None


def circle(store: Store, job: Job, besides: str = "") -> list[str] | None:
    """Return the names from this job through what it needs back to it; `besides` is its own run, if it has one."""
    ways = [[job.name, need] for need in job.stoker.needs]
    seen = set()
    while ways:
        way = ways.pop()
        row = newest(store, way[-1], besides)
        if row is None or row["run_id"] in seen or row["state"] in ENDED:
            continue
        seen.add(row["run_id"])
        needs = json.loads(row["job"])["stoker"]["needs"]
        if job.name in needs:
            return [*way, job.name]
        ways += [[*way, need] for need in needs]
    return None


def newest(store: Store, name: str, besides: str = "") -> sqlite3.Row | None:
    """Return the newest run, other than `besides`, that a name in `needs` means."""
    row: sqlite3.Row | None = store.db.execute(
        "SELECT * FROM runs WHERE (name = ? OR run_id = ?) AND run_id != ? ORDER BY seq DESC LIMIT 1",
        (name, name, besides),
    ).fetchone()
    return row


def unfinished(home: Home, store: Store, lost: Callable[[RunPaths, Verdict], None]) -> list[str]:
    """Admit run folders that a crash left without a row; hand those that are no longer valid to `lost`."""
    known = {row["run_id"] for row in store.db.execute("SELECT run_id FROM runs")}
    admitted = []
    for folder in sorted(home.runs.iterdir()):
        if folder.name in known or not folder.is_dir():
            continue
        paths = RunPaths(folder)
        note = read_json(folder / _ADMISSION) or {}
        if not _whole(paths, note):
            continue
        base_dir = Path(note["base_dir"]) if note.get("base_dir") else None
        file = str(note.get("file") or "job.yaml")
        data = paths.submitted.read_bytes()
        appraisal = judge(home, 0.0, data, file, base_dir)
        errors = appraisal.errors or (conflicts(store, appraisal.job) if appraisal.job else ())
        if errors:
            lost(paths, Verdict(None, errors))
            continue
        _insert(store, paths, data, appraisal, note.get("source"), note.get("base_dir"))
        admitted.append(folder.name)
    return admitted


def _whole(paths: RunPaths, note: Mapping[str, Any]) -> bool:
    """Finish the claim of a folder as far as its file goes; False when the file never came here."""
    file = Path(note["path"]) if note.get("path") else None
    if not paths.submitted.exists():
        if file is not None and _aside(file, paths).exists():
            _copy_aside(file, paths)
        elif (file is None or file.parent.is_dir()) and time.time() - paths.dir.stat().st_mtime > _CLAIM_S:
            # The claim ended before the file moved: it is still in the inbox. A young folder may be the command line's,
            # which is about to write the file.
            _discard(paths.dir)
    elif file is not None:
        _aside(file, paths).unlink(missing_ok=True)
    return paths.submitted.exists()


def _discard(folder: Path) -> None:
    """Remove a folder that holds nothing but the note of a claim."""
    (folder / _ADMISSION).unlink(missing_ok=True)
    if not any(folder.iterdir()):
        folder.rmdir()


def frozen_env(job: Path) -> dict[str, str]:
    """Return the environment of a frozen job; its values stand nowhere but in the job file."""
    stoker = (parse(job.read_bytes()).value or {}).get("stoker") or {}
    return dict(StokerKeys.model_validate({"env": stoker.get("env") or {}}).env)
