"""What people ask of a run: pause, resume, cancel, retry. Each is a durable row, answered when it is done."""

import json
from collections.abc import Callable, Mapping
from typing import Any

from stoker.supervisor.attempts import Attempts
from stoker.supervisor.context import Context
from stoker.supervisor.errors import StokerError
from stoker.supervisor.life import change, perform
from stoker.supervisor.states import Effect, Event, NotPossibleError, State
from stoker.supervisor.store.find import find_run

_NEWEST = 1 << 53


class Commands:
    """Carries out commands on runs."""

    def __init__(self, ctx: Context, attempts: Attempts) -> None:
        self._ctx = ctx
        self._attempts = attempts
        self._verbs: dict[str, Callable[[str, Mapping[str, Any]], str]] = {
            "pause": self._pause,
            "resume": self._resume,
            "cancel": self._cancel,
            "retry": self._retry,
        }

    def carry_out(self, verb: str, payload: Mapping[str, Any]) -> dict[str, Any]:
        """Return the answer: ok, run_id, state and a sentence, or error, hint and exit_code."""
        try:
            run_id = find_run(self._ctx.store.db, str(payload["run"]))
            said = self._verbs[verb](run_id, payload)
        except StokerError as error:
            return {"ok": False, "error": error.message, "hint": error.hint, "exit_code": error.exit_code}
        except NotPossibleError as error:
            return {"ok": False, "error": str(error), "hint": _HINTS.get(verb, ""), "exit_code": 1}
        state = self._ctx.store.run(run_id)["state"]
        return {"ok": True, "run_id": run_id, "state": state, "text": said}

    def _pause(self, run_id: str, _payload: Mapping[str, Any]) -> str:
        if self._ctx.store.run(run_id)["state"] in {State.STOPPING, State.HELD}:
            return "is stopping or held already"
        effects = change(self._ctx, run_id, Event.PAUSE, "paused by you", desired="paused", release="person")
        return self._stop(run_id, effects, "commits a checkpoint, then it is held")

    def _cancel(self, run_id: str, _payload: Mapping[str, Any]) -> str:
        effects = change(self._ctx, run_id, Event.CANCEL, "cancelled by you", desired="cancelled", release=None)
        perform(self._ctx, run_id, effects)
        return self._stop(run_id, effects, "ends at the next iteration, then it is cancelled")

    def _stop(self, run_id: str, effects: tuple[Effect, ...], meanwhile: str) -> str:
        if Effect.TERMINATE not in effects:
            return "done"
        self._attempts.terminate(run_id, self._ctx.settings.stop_grace)
        return meanwhile

    def _resume(self, run_id: str, payload: Mapping[str, Any]) -> str:
        run = self._ctx.store.run(run_id)
        onward: dict[str, Any] = (
            json.loads(run["next"]) if run["next"] else {"target": _NEWEST if run["attempt"] else 0}
        )
        columns: dict[str, Any] = {"release": None, "desired": None}
        if record := onward.pop("adjustment", None):
            adjustments = [*json.loads(run["adjustments"]), {"attempt": run["attempt"] + 1, **record}]
            columns |= {"adjustments": json.dumps(adjustments), "exact": 0}
        if payload.get("accept_changed"):
            onward |= {"mode": "warm", "accept_changed": True}
        if payload.get("force"):
            # A new file is a new lease: whoever holds the old one no longer counts, as the person said.
            self._ctx.home.run(run_id).lease.unlink(missing_ok=True)
        change(self._ctx, run_id, Event.RESUME, "released by you", next=json.dumps(onward), **columns)
        return "queued"

    def _retry(self, run_id: str, payload: Mapping[str, Any]) -> str:
        run = self._ctx.store.run(run_id)
        onward = (
            {"target": 0, "start_over": True} if payload.get("from_start") else {"target": _NEWEST, "mode": "exact"}
        )
        columns: dict[str, Any] = {
            "next": json.dumps(onward), "budget_from": run["attempt"], "ended_at": None, "release": None, "desired": None,
        }  # fmt: skip
        change(self._ctx, run_id, Event.RETRY, "retried by you; budgets are cleared", **columns)
        return "queued, budgets cleared"


_HINTS = {
    "resume": "only a held run can be resumed; a failed or cancelled one: stoker retry RUN",
    "retry": "only a failed or cancelled run can be retried; a held one: stoker resume RUN",
    "pause": "stoker status shows what it is doing",
    "cancel": "stoker status shows what it is doing",
}
