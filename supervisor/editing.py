"""`stoker edit`: the edited job is judged as a submitted one is, and the run lives by it from its next attempt on.

Judging reads only. Then the frozen job file is replaced, and after that, in one transaction, the row: a command that a
crash stops in between is carried out again, with the same result.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stoker.profiles import edits
from stoker.profiles.edits import MICRO_BATCH, Change
from stoker.profiles.yaml_positions import parse
from stoker.profiles.yaml_scalars import dump
from stoker.recovery.adjust import IN_CONFIG
from stoker.recovery.edited import REASON, edit_record, keeps_exact, with_edit
from stoker.supervisor.context import Context
from stoker.supervisor.edit_checks import Edited, mistakes, obstacles
from stoker.supervisor.errors import StokerError
from stoker.supervisor.failpoints import hit
from stoker.supervisor.files import write_atomic
from stoker.supervisor.jobs import job_record
from stoker.supervisor.life import change
from stoker.supervisor.preflight import Appraisal, Surroundings, appraise
from stoker.supervisor.review import words as review
from stoker.supervisor.settling import NEWEST
from stoker.supervisor.standing import Standing, stored_value
from stoker.supervisor.states import Effect, Event, State, advance

# In the middle of a training they are launch options, or change the attempts' config.yaml only.
_ADJUSTED = IN_CONFIG | {"learning_rate"}
_SET = "(set by you)"  # stands for the new value of an environment variable
_THEN = {
    State.HELD: "then: stoker resume {}",
    State.FAILED: "then: stoker retry {}",
    State.CANCELLED: "then: stoker retry {}",
}


@dataclass(frozen=True, slots=True)
class Edit:
    """An edit that was judged good.

    Attributes:
        run_id: of the run.
        file: the new job file; None = it stays as it is.
        columns: what changes in the run's row.
        changes: each in words; none = everything was so already.
        follows: what comes next, in words.
    """

    run_id: str
    file: bytes | None
    columns: Mapping[str, Any]
    changes: tuple[str, ...]
    follows: str


def judge(ctx: Context, run_id: str, words: Sequence[str]) -> Edit:
    """Return the edit that words such as `iters=200` ask for. Nothing is written.

    Raises:
        NotPossibleError: a trainer is at work.
        StokerError: anything in the words is wrong, or the edited job would not be accepted; all of it is named.
    """
    run = ctx.store.run(run_id)
    advance(State(run["state"]), Event.EDIT)
    standing = Standing(run, ctx.store.attempts(run_id), ctx.home.run(run_id))
    return _Judge(ctx, standing, *edits.read(words)).judge()


def carry_out(ctx: Context, edit: Edit) -> tuple[str, tuple[Effect, ...]]:
    """Change the run's row, inside a transaction; return the answer and the effects, to be performed."""
    if not edit.changes:
        return edit.follows, ()
    said = ", ".join(edit.changes)
    state = State(ctx.store.run(edit.run_id)["state"])
    if state is State.COMPLETED:
        effects = change(ctx, edit.run_id, Event.EDIT, f"{REASON}: {said}", **edit.columns)
    else:  # its state and the reason for it stay
        effects = ()
        ctx.store.update_run(edit.run_id, **edit.columns)
        ctx.store.event(edit.run_id, str(Event.EDIT), f"{REASON}: {said}", state=str(state))
    return "; ".join(part for part in (said, edit.follows) if part), effects


def write(ctx: Context, edit: Edit) -> None:
    """Replace the run's frozen job file; before the transaction, so that the row is never ahead of it.

    Raises:
        OSError: it cannot be written; nothing has changed.
    """
    if edit.file is not None:
        write_atomic(ctx.home.run(edit.run_id).job, edit.file)
        hit("daemon.edit.written")


class _Judge:
    """One edit of one run, with what is found to be wrong with it."""

    def __init__(self, ctx: Context, standing: Standing, changes: tuple[Change, ...], misread: tuple[str, ...]) -> None:
        self._ctx, self._standing, self._changes = ctx, standing, changes
        self._run_id: str = standing.run["run_id"]
        self._mistakes = list(misread)  # in what the person wrote
        self._obstacles: list[str] = []  # in how the run stands
        self._hint = edits.HINT if misread else ""

    def judge(self) -> Edit:
        standing, store, job = self._standing, self._ctx.store, self._job_file()
        in_file = [change for change in self._changes if change.key != MICRO_BATCH]
        appraisal = self._appraise(edits.changed(job, in_file))
        self._mistakes += self._new_errors(appraisal, job)
        if appraisal.resolved is None or appraisal.job is None:
            for change in self._changes:
                edited = Edited(change, standing.value(change.path), change.value)
                self._mistakes += mistakes(edited, standing, None, store)
            # What is wrong besides the edit is said only where it is all there is to say.
            self._obstacles += [] if self._mistakes else [problem.message for problem in appraisal.errors]
            self._obstacles += obstacles(standing, None, store)
            raise self._refusal()
        new = self._new_record(appraisal)
        found = [self._edited(change, new) for change in self._changes]
        for edited in found:
            self._mistakes += mistakes(edited, standing, appraisal.job, store)
        self._obstacles += obstacles(standing, new["config"].get("iters"), store)
        if self._mistakes or self._obstacles:
            raise self._refusal()
        return self._edit(job, new, [edited for edited in found if edited.before != edited.after], appraisal)

    def _job_file(self) -> dict[str, Any]:
        path = self._standing.paths.job
        try:
            document = parse(path.read_bytes())
        except OSError as error:
            raise StokerError(f"cannot read the job of {self._run_id}, {path}: {error.strerror}") from error
        if document.value is None or document.flaws:
            raise StokerError(f"the job of {self._run_id}, {path}, is damaged: {document.flaws[0].message}")
        return document.value

    def _appraise(self, job: Mapping[str, Any]) -> Appraisal:
        """Judge a job for this run's folders; what the run has written already needs no room any more."""
        paths, base_dir = self._standing.paths, self._standing.job["base_dir"]
        min_free = self._ctx.settings.min_free_bytes - _size(paths.checkpoints) - _size(paths.adapter)
        around = Surroundings.of(self._ctx.home.dir, paths.dir, min_free=min_free)
        data = dump(job).encode()
        return appraise(data, file=f"{self._run_id}.yaml", base_dir=Path(base_dir) if base_dir else None, around=around)

    def _new_errors(self, appraisal: Appraisal, job: Mapping[str, Any]) -> list[str]:
        """Return what the edit made wrong; a folder that is not mounted now is no fault of it."""
        errors = appraisal.errors
        if not errors:
            return []
        before = self._appraise(job)
        standing = {problem.message for problem in before.errors}
        names = {check.name for check in before.checks if check.verdict == "fail"}
        return [
            problem.message + (f" (did you mean {problem.nearest}?)" if problem.nearest else "")
            for problem in errors
            if problem.message not in standing and problem.message.split(":", 1)[0] not in names
        ]

    def _new_record(self, appraisal: Appraisal) -> dict[str, Any]:
        """Return the record of the edited job: only what was edited, and what follows from it, is new."""
        old, resolved = self._standing.job, appraisal.resolved
        assert resolved is not None
        fresh: dict[str, Any] = json.loads(
            json.dumps(job_record(appraisal, resolved.config, old["base_dir"]), default=str)
        )
        config, provenance = dict(old["config"]), dict(old["provenance"])
        taken = {change.path[0] for change in self._changes if change.path[0] != "stoker"} & fresh["config"].keys()
        for key in taken:
            config[key], provenance[key] = fresh["config"][key], REASON
        if self._standing.trainer.checkpoints != "stoker" and "save_every" in fresh["config"]:
            config["save_every"] = fresh["config"]["save_every"]  # bounded by the new iters
        if appraisal.need is None:  # the model is not there now: what was found out about its size stays
            fresh |= {key: old[key] for key in ("keep", "checkpoint_bytes") if key in old}
        return {**fresh, "config": config, "provenance": provenance, "test": old["test"]}

    def _edited(self, change: Change, new: Mapping[str, Any]) -> Edited:
        before = self._standing.value(change.path)
        if change.path == (MICRO_BATCH,):
            whole = new["config"].get("batch_size")
            return Edited(change, before, whole if change.value is None else change.value)
        after = stored_value(new, change.path)
        return Edited(change, before, _SET if change.secret and after is not None else after)

    def _refusal(self) -> StokerError:
        """Return everything that is wrong as one error."""
        wrong = [*dict.fromkeys(self._mistakes), *self._obstacles]
        text = f" {wrong[0]}" if len(wrong) == 1 else "".join(f"\n  {line}" for line in wrong)
        return StokerError(
            f"{self._run_id} was not edited:{text}", hint=self._hint, exit_code=2 if self._mistakes else 1
        )

    def _edit(self, job: Mapping[str, Any], new: dict[str, Any], found: list[Edited], appraisal: Appraisal) -> Edit:
        standing = self._standing
        if not found:
            return Edit(self._run_id, None, {}, (), "nothing to change: it is so already")
        adjusted = frozenset({MICRO_BATCH}) | (_ADJUSTED if standing.continues else frozenset())
        for key in adjusted & {edited.key for edited in found} & new["config"].keys():
            for part in ("config", "provenance"):
                new[part][key] = standing.job[part][key]
        file = edits.changed(job, [edited.change for edited in found if edited.key not in adjusted])
        records = self._records(found, adjusted, appraisal)
        onward, follows = self._next({edited.key for edited in found})
        columns: dict[str, Any] = {
            "job": json.dumps(new),
            "iters": new["config"].get("iters"),
            "priority": new["stoker"]["priority"],
            "adjustments": json.dumps(records),
            **onward,
        }
        if standing.trainer.interpreter is not None:
            labelled = any(json.loads(row["labels"] or "[]") for row in standing.attempts)
            columns["exact"] = int(not labelled and all(keeps_exact(record) for record in records))
        changes = tuple(review.change({"field": e.key, "from": e.before, "to": e.after}) for e in found)
        return Edit(self._run_id, dump(file).encode() if file != job else None, columns, changes, follows)

    def _records(self, found: list[Edited], adjusted: frozenset[str], appraisal: Appraisal) -> list[dict[str, Any]]:
        """Return the records in force: those so far, the edits, and where admission bounds an edited value."""
        standing, attempt = self._standing, self._standing.run["attempt"] + 1
        records = [r for r in standing.records if r["attempt"] != attempt or not _of_admission(r)]
        for edited in found:
            if standing.run["attempt"] or edited.key == MICRO_BATCH:
                values, in_config = (edited.before, edited.after), edited.key not in adjusted
                record = edit_record(edited.key, *values, attempt=attempt, in_config=in_config, from_step=standing.step)
                records = with_edit(records, record)
        assert appraisal.resolved is not None
        for bound in appraisal.resolved.adjustments:
            last = next((r for r in reversed(records) if r["field"] == bound["field"] and _of_admission(r)), None)
            if last is None or (last["from"], last["to"]) != (bound["from"], bound["to"]):
                records.append({"attempt": attempt, **bound})
        return records

    def _next(self, keys: set[str]) -> tuple[dict[str, Any], str]:
        """Return the columns about the next attempt, and what follows in words."""
        standing, run = self._standing, self._standing.run
        state = State(run["state"])
        if state is State.COMPLETED:
            columns = {
                "next": json.dumps({"target": NEWEST, "mode": "exact"}), "budget_from": run["attempt"], "final": None,
                "ended_at": None, "recorded": 0, "desired": None, "release": None, "wake_at": None,
            }  # fmt: skip
            return columns, f"it goes on from {standing.checkpoint.name if standing.checkpoint else 'iteration 0'}"
        then = _THEN.get(state, "").format(self._run_id)
        proposed = standing.onward.get("adjustment")
        if proposed is None or proposed["field"] not in keys:
            return {}, then
        # The person has decided otherwise: the proposal was made from the value that is no longer in effect.
        onward = {key: value for key, value in standing.onward.items() if key != "adjustment"}
        dropped = f"the change that was proposed, {review.change(proposed)}, is dropped"
        return {"next": json.dumps(onward)}, f"{dropped}; {then}" if then else dropped


def _of_admission(record: Mapping[str, Any]) -> bool:
    """Whether it says how a value was bounded when the job was judged: it is judged anew."""
    field = str(record["field"])
    return not record.get("by") and (field.startswith("stoker.") or field == "save_every")


def _size(folder: Path) -> int:
    """Return the bytes of the files below a folder."""
    try:
        return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    except OSError:  # something was removed meanwhile
        return 0
