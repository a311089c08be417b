"""What people ask of a run: pause, resume, cancel, retry, edit. Each is a durable row, answered when it is done."""

import json
import sqlite3
from collections.abc import Callable, Mapping
from typing import Any

from stoker.profiles.edits import without_secrets
from stoker.profiles.trainer_rows import trainer_rows
from stoker.supervisor import editing, stopping
from stoker.supervisor.context import Context
from stoker.supervisor.errors import StokerError
from stoker.supervisor.failpoints import hit
from stoker.supervisor.jobs import adapter_owner
from stoker.supervisor.life import change, perform
from stoker.supervisor.settling import NEWEST
from stoker.supervisor.states import Effect, Event, NotPossibleError, State, advance
from stoker.supervisor.store.find import find_run

_Done = tuple[str, tuple[Effect, ...]]


class Commands:
    """Carries out commands on runs."""

    def __init__(self, ctx: Context) -> None:
        self._ctx = ctx
        self._verbs: dict[str, Callable[[str, Mapping[str, Any]], _Done]] = {
            "pause": self._pause,
            "resume": self._resume,
            "cancel": self._cancel,
            "retry": self._retry,
        }

    def carry_out(self, row: sqlite3.Row) -> None:
        """Do what a command says and answer it: ok, run_id, state and a sentence, or error, hint and exit_code.

        Change and answer are one transaction, so a crash in between cannot make a command happen twice.
        """
        verb, payload = row["verb"], json.loads(row["payload"])
        asked = {**payload, "changes": without_secrets(payload["changes"])} if verb == "edit" else None
        try:
            run_id = find_run(self._ctx.store.db, str(payload["run"]))
            edit = self._edited(run_id, payload) if verb == "edit" else None
            with self._ctx.store.transaction():
                said, effects = editing.carry_out(self._ctx, edit) if edit else self._verbs[verb](run_id, payload)
                state = self._ctx.store.run(run_id)["state"]
                answer = {"ok": True, "run_id": run_id, "state": state, "text": said}
                self._ctx.store.answer(row["id"], answer, asked=asked)
        except StokerError as error:
            answer = {"ok": False, "error": error.message, "hint": error.hint, "exit_code": error.exit_code}
        except NotPossibleError:
            state = self._ctx.store.run(run_id)["state"]
            answer = {"ok": False, "error": f"{run_id} is {state}", "hint": _HINTS[verb], "exit_code": 1}
        else:
            hit("daemon.command.done")
            perform(self._ctx, run_id, effects)
            return
        with self._ctx.store.transaction():
            self._ctx.store.answer(row["id"], answer, asked=asked)

    def _edited(self, run_id: str, payload: Mapping[str, Any]) -> editing.Edit:
        """Judge an edit and write its file: before the transaction, which must be short and comes after the file."""
        edit = editing.judge(self._ctx, run_id, [str(word) for word in payload["changes"]])
        editing.write(self._ctx, edit)
        return edit

    def _pause(self, run_id: str, _payload: Mapping[str, Any]) -> _Done:
        state = self._ctx.store.run(run_id)["state"]
        if state in {State.STOPPING, State.HELD}:
            return f"it is {state} already", ()
        effects = change(self._ctx, run_id, Event.PAUSE, "paused by you", desired="paused", release="person")
        return self._stop(run_id, effects, "it commits a checkpoint, then it is held"), effects

    def _cancel(self, run_id: str, _payload: Mapping[str, Any]) -> _Done:
        effects = change(self._ctx, run_id, Event.CANCEL, "cancelled by you", desired="cancelled", release=None)
        return self._stop(run_id, effects, "it ends at the next iteration, then it is cancelled"), effects

    def _stop(self, run_id: str, effects: tuple[Effect, ...], meanwhile: str) -> str:
        if Effect.TERMINATE not in effects:
            return "done"
        stopping.ask(self._ctx, run_id, self._ctx.store.run(run_id)["attempt"], self._ctx.settings.stop_grace)
        return meanwhile

    def _resume(self, run_id: str, payload: Mapping[str, Any]) -> _Done:
        run = self._ctx.store.run(run_id)
        onward: dict[str, Any] = json.loads(run["next"]) if run["next"] else {"target": NEWEST if run["attempt"] else 0}
        columns: dict[str, Any] = {"release": None, "desired": None, "wake_at": None}
        if record := onward.pop("adjustment", None):
            adjustments = [*json.loads(run["adjustments"]), {"attempt": run["attempt"] + 1, **record}]
            columns |= {"adjustments": json.dumps(adjustments), "exact": 0}
        if payload.get("accept_changed"):
            onward |= {"mode": "warm", "accept_changed": True}
        effects = change(self._ctx, run_id, Event.RESUME, "released by you", next=json.dumps(onward), **columns)
        if payload.get("force"):
            # A new file is a new lease: whoever holds the old one no longer counts, as the person said.
            self._ctx.home.run(run_id).lease.unlink(missing_ok=True)
        return "it is in the queue", effects

    def _retry(self, run_id: str, payload: Mapping[str, Any]) -> _Done:
        run = self._ctx.store.run(run_id)
        onward: dict[str, Any] = {"target": NEWEST, "mode": "exact"}
        if payload.get("from_start") or trainer_rows()[run["trainer"]].resume == "none":
            onward = {"target": 0, "start_over": True}
        columns: dict[str, Any] = {
            "next": json.dumps(onward), "budget_from": run["attempt"], "ended_at": None, "release": None, "desired": None,
            "wake_at": None,
        }  # fmt: skip
        advance(State(run["state"]), Event.RETRY)  # what is not possible is said before who is in the way
        self._refuse_shared_adapter(run)
        effects = change(self._ctx, run_id, Event.RETRY, "retried by you; budgets are cleared", **columns)
        return "it is in the queue, budgets cleared", effects

    def _refuse_shared_adapter(self, run: sqlite3.Row) -> None:
        """Two living runs never write one folder; another may have taken it since this one ended."""
        if owner := adapter_owner(self._ctx.store, run["adapter_key"], besides=run["run_id"]):
            raise StokerError(
                f"the adapter_path of {run['run_id']} belongs to the run {owner}, which has not ended",
                hint=f"wait for it, or: stoker cancel {owner}",
            )


_HINTS = {
    "resume": "only a held run can be resumed; a failed or cancelled one: stoker retry RUN",
    "retry": "only a failed or cancelled run can be retried; a held one: stoker resume RUN",
    "pause": "only a run that has not ended can be paused; a failed or cancelled one goes on with: stoker retry RUN",
    "cancel": "only a run that has not ended can be cancelled",
    "edit": "pause first: stoker pause RUN",
}
