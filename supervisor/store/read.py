"""What people read: runs as JSON, from the store and, for living attempts, from the trainers' own files.

Progress is not in the store: the heartbeat and metrics.jsonl of a living attempt are read when somebody asks, so all of
this works with the daemon down and costs the daemon nothing.
"""

import json
import sqlite3
import time
from collections.abc import Iterable, Mapping
from types import TracebackType
from typing import Any, Self

from stoker.supervisor.clock import iso
from stoker.supervisor.instance import running_pid
from stoker.supervisor.paths import Home
from stoker.supervisor.states import ACTIVE, ENDED
from stoker.supervisor.store.connect import connect_reading
from stoker.supervisor.store.ettr import ettr
from stoker.supervisor.store.find import find_run
from stoker.supervisor.store.live import live_progress, start_report

_RECENT_S = 24 * 3600.0  # `status` shows what ended within a day


class Reader:
    """Read models of one home; use it as a context manager. A home without a store reads as empty."""

    def __init__(self, home: Home) -> None:
        self._home = home
        self._db: sqlite3.Connection | None = connect_reading(home.database) if home.database.exists() else None
        self._now = time.time()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._db is not None:
            self._db.close()

    def _rows(self, query: str, values: Iterable[Any] = ()) -> list[sqlite3.Row]:
        if self._db is None:
            return []
        try:
            return self._db.execute(query, tuple(values)).fetchall()
        except sqlite3.OperationalError as error:
            if "no such table" in str(error):  # a store that is just being made
                return []
            raise

    def status(self) -> dict[str, Any]:
        """Return the daemon and the runs that are alive or ended within a day."""
        ended = ", ".join(f"'{state}'" for state in sorted(ENDED))
        rows = self._rows(
            f"SELECT * FROM runs WHERE state NOT IN ({ended}) OR ended_at > ? ORDER BY seq",  # noqa: S608 - constants
            (self._now - _RECENT_S,),
        )
        pid = running_pid(self._home.lock)
        return {"daemon": {"running": pid is not None, "pid": pid or None}, "runs": self._listed(rows)}

    def runs(self, states: set[str] | None = None) -> dict[str, Any]:
        """Return all runs, newest first."""
        rows = self._rows("SELECT * FROM runs ORDER BY seq DESC")
        return {"runs": self._listed([row for row in rows if states is None or row["state"] in states])}

    def find(self, reference: str) -> str:
        """Return the run_id that a person means.

        Raises:
            UnknownRunError: none, or several.
        """
        if self._db is None:
            return find_run(_empty(), reference)
        return find_run(self._db, reference)

    def _attempts(self, run_id: str) -> list[dict[str, Any]]:
        return [dict(row) for row in self._rows("SELECT * FROM attempts WHERE run_id = ? ORDER BY n", (run_id,))]

    def _listed(self, rows: list[sqlite3.Row]) -> list[dict[str, Any]]:
        """Return many runs, their attempts fetched at once."""
        attempts: dict[str, list[dict[str, Any]]] = {row["run_id"]: [] for row in rows}
        for attempt in self._rows("SELECT * FROM attempts ORDER BY run_id, n"):
            if attempt["run_id"] in attempts:
                attempts[attempt["run_id"]].append(dict(attempt))
        return [self._run(row, self._begun(row, attempts[row["run_id"]])) for row in rows]

    def _begun(self, row: sqlite3.Row, attempts: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """Return the attempts with the label of a living one: the trainer has said it, the store learns it at its end."""
        if row["state"] not in ACTIVE or not attempts or attempts[-1]["labels"] is not None:
            return attempts
        start = start_report(self._home.run(row["run_id"]).attempt(row["attempt"]).metrics)
        if not start.get("resume"):
            return attempts
        labels = json.dumps(start.get("label_reasons") or [])
        return [*attempts[:-1], {**attempts[-1], "resume": start["resume"], "labels": labels}]

    def _run(self, row: sqlite3.Row, attempts: list[dict[str, Any]]) -> dict[str, Any]:
        job = json.loads(row["job"])
        run: dict[str, Any] = {
            "run_id": row["run_id"],
            "name": row["name"],
            "state": row["state"],
            "attempt": row["attempt"],
            "iteration": row["iteration"],
            "iters": row["iters"],
            "loss": row["loss"],
            "ettr": ettr(dict(row), attempts, self._now),
            "eta_s": None,
            "reason": row["reason"],
            "model": job["config"].get("model"),
            "priority": row["priority"],
            "exact": bool(row["exact"]) and not (row["state"] in ACTIVE and _labels(attempts[-1:])),
            "release": row["release"],
            "wake_at": iso(row["wake_at"]),
            "created_at": iso(row["created_at"]),
            "started_at": iso(row["started_at"]),
            "ended_at": iso(row["ended_at"]),
        }
        if row["state"] in ACTIVE and attempts:
            progress = live_progress(self._home.run(row["run_id"]), row["attempt"], attempts, row["iters"])
            run |= {key: value for key, value in progress.items() if value is not None}
        return run

    def show(self, run_id: str) -> dict[str, Any]:
        """Return everything about a run (DESIGN section 6)."""
        row = self._rows("SELECT * FROM runs WHERE run_id = ?", (run_id,))[0]
        job = json.loads(row["job"])
        attempts = self._begun(row, self._attempts(run_id))
        return {
            **self._run(row, attempts),
            "config": job["config"],
            "provenance": job["provenance"],
            "trainer": row["trainer"],
            "adjustments": [_adjustment(a) for a in json.loads(row["adjustments"])],
            "attempts": [_attempt(attempt) for attempt in attempts],
            "final": json.loads(row["final"]) if row["final"] else None,
            "label_reasons": _labels(attempts),
        }

    def decisions(self, run_id: str) -> list[dict[str, Any]]:
        """Return what was decided after each attempt, with the evidence it was decided from."""
        return [_decision(attempt) for attempt in self._attempts(run_id) if attempt["ended_at"] is not None]

    def events(self, run_id: str) -> list[dict[str, Any]]:
        """Return the run's events, oldest first."""
        rows = self._rows("SELECT * FROM events WHERE run_id = ? ORDER BY id", (run_id,))
        return [
            {"at": iso(row["at"]), "kind": row["kind"], "text": row["text"], **json.loads(row["data"] or "{}")}
            for row in rows
        ]


def _empty() -> sqlite3.Connection:
    db = sqlite3.connect(":memory:")
    db.row_factory = sqlite3.Row
    db.execute("CREATE TABLE runs (run_id, name, seq)")
    return db


def _labels(attempts: Iterable[Mapping[str, Any]]) -> list[str]:
    """Return why the weights need not be those of an uninterrupted stock run, each reason once."""
    return list(dict.fromkeys(reason for attempt in attempts for reason in json.loads(attempt["labels"] or "[]")))


def _adjustment(record: Mapping[str, Any]) -> dict[str, Any]:
    return {key: record.get(key) for key in ("attempt", "field", "from", "to", "reason", "preserves", "lossy")}


def _attempt(row: Mapping[str, Any]) -> dict[str, Any]:
    diagnosis = json.loads(row["diagnosis"]) if row["diagnosis"] else {}
    plan = json.loads(row["plan"]) if row["plan"] else None
    return {
        "n": row["n"],
        "started_at": iso(row["started_at"]),
        "ended_at": iso(row["ended_at"]),
        "from_iteration": row["from_iteration"],
        "to_iteration": row["to_iteration"],
        "resume": row["resume"],
        "label_reasons": json.loads(row["labels"]) if row["labels"] else None,  # None: its trainer has not said it
        "checkpoint": row["checkpoint"],
        "rejected": (json.loads(row["choice"]) if row["choice"] else {}).get("rejected", []),
        "exit_code": row["exit_code"],
        "signal": row["signal"],
        "cause": row["cause"],
        "simulated": bool(diagnosis.get("simulated")),
        "findings": diagnosis.get("findings", []),
        "plan": plan["reason"] if plan else None,
        "lost_iterations": row["lost_iterations"],
    }


def _decision(row: Mapping[str, Any]) -> dict[str, Any]:
    diagnosis = json.loads(row["diagnosis"]) if row["diagnosis"] else {}
    plan = json.loads(row["plan"]) if row["plan"] else {}
    choice = json.loads(row["choice"]) if row["choice"] else {"chosen": None, "rejected": []}
    return {
        "attempt": row["n"],
        "cause": row["cause"],
        "confidence": diagnosis.get("confidence"),
        "simulated": bool(diagnosis.get("simulated")),
        "findings": diagnosis.get("findings", []),
        "advice": diagnosis.get("advice"),
        "missing": diagnosis.get("missing", []),
        "row": plan.get("row"),
        "plan": plan.get("action"),
        "reason": plan.get("reason"),
        "adjustment": plan.get("adjustment"),
        "checkpoint": choice,
        "numbers": plan.get("numbers", {}),
        "at": iso(row["ended_at"]),
    }
