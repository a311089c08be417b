"""Writes to the store: each public method is one transaction, with its event row."""

import contextlib
import json
import sqlite3
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from stoker.supervisor.clock import Clock, iso
from stoker.supervisor.files import append_line
from stoker.supervisor.paths import Home
from stoker.supervisor.store.connect import connect


class Store:
    """The daemon's side of the store.

    Attributes:
        db: the connection; read it freely, write through the methods.
    """

    def __init__(self, home: Home, clock: Clock) -> None:
        self._home = home
        self._clock = clock
        self.db = connect(home.database)
        self._mirror: list[tuple[str, str]] = []

    def close(self) -> None:
        """Close the connection."""
        self.db.close()

    @contextlib.contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """One atomic change; its events are mirrored to the runs' events.jsonl after the commit."""
        self._mirror.clear()
        self.db.execute("BEGIN IMMEDIATE")
        try:
            yield self.db
        except BaseException:
            self.db.execute("ROLLBACK")
            raise
        self.db.execute("COMMIT")
        for run_id, line in self._mirror:
            with contextlib.suppress(OSError):  # the mirror only serves a lost database; a full disk must not stop us
                append_line(self._home.run(run_id).events, line)
        self._mirror.clear()

    def event(self, run_id: str | None, kind: str, text: str, **data: Any) -> None:
        """Append an event; to be called inside a transaction."""
        at = self._clock.wall()
        self.db.execute(
            "INSERT INTO events (run_id, at, kind, text, data) VALUES (?, ?, ?, ?, ?)",
            (run_id, at, kind, text, json.dumps(data, default=str) if data else None),
        )
        if run_id is not None:
            self._mirror.append((run_id, json.dumps({"at": iso(at), "kind": kind, "text": text, **data}, default=str)))

    def insert_run(self, row: Mapping[str, Any]) -> None:
        """Insert an admitted run; a run that is there already stays as it is (claims are repeated after a crash)."""
        with self.transaction() as db:
            (seq,) = db.execute("SELECT coalesce(max(seq), 0) + 1 FROM runs").fetchone()
            values = {"seq": seq, "created_at": self._clock.wall(), **row}
            added = db.execute(
                f"INSERT OR IGNORE INTO runs ({', '.join(values)}) VALUES ({', '.join(':' + k for k in values)})",  # noqa: S608 - the names are this module's own columns
                values,
            )
            if added.rowcount:
                self.event(values["run_id"], "admitted", f"accepted as {values['run_id']}")

    def update_run(self, run_id: str, **columns: Any) -> None:
        """Set columns of a run; to be called inside a transaction."""
        self._update("runs", "run_id = :run_id", {"run_id": run_id}, columns)

    def update_attempt(self, run_id: str, n: int, **columns: Any) -> None:
        """Set columns of an attempt; to be called inside a transaction."""
        self._update("attempts", "run_id = :run_id AND n = :n", {"run_id": run_id, "n": n}, columns)

    def _update(self, table: str, where: str, key: dict[str, Any], columns: dict[str, Any]) -> None:
        names = ", ".join(f"{name} = :{name}" for name in columns)
        self.db.execute(f"UPDATE {table} SET {names} WHERE {where}", {**columns, **key})  # noqa: S608 - names are columns of the schema

    def insert_attempt(self, **columns: Any) -> None:
        """Insert an attempt; to be called inside a transaction."""
        names = ", ".join(columns)
        values = ", ".join(f":{name}" for name in columns)
        self.db.execute(f"INSERT INTO attempts ({names}) VALUES ({values})", columns)  # noqa: S608 - names are columns of the schema

    def run(self, run_id: str) -> sqlite3.Row:
        """Return the row of a run that is known to exist."""
        row: sqlite3.Row = self.db.execute("SELECT * FROM runs WHERE run_id = ?", (run_id,)).fetchone()
        return row

    def runs_in(self, *states: str) -> list[sqlite3.Row]:
        """Return the runs in these states: higher priority first, resuming ones before new ones, then first come."""
        marks = ", ".join("?" for _ in states)
        return self.db.execute(
            f"SELECT * FROM runs WHERE state IN ({marks}) ORDER BY priority DESC, resuming DESC, seq",  # noqa: S608 - only question marks
            states,
        ).fetchall()

    def attempts(self, run_id: str) -> list[sqlite3.Row]:
        """Return the attempts of a run, oldest first."""
        return self.db.execute("SELECT * FROM attempts WHERE run_id = ? ORDER BY n", (run_id,)).fetchall()

    def recent_attempts(self, most: int) -> list[sqlite3.Row]:
        """Return the newest ended attempts of all runs: from_iteration, to_iteration, train_s, diagnosis."""
        return self.db.execute(
            "SELECT from_iteration, to_iteration, train_s, diagnosis FROM attempts NATURAL JOIN "
            "(SELECT run_id, n FROM attempts WHERE ended_at IS NOT NULL ORDER BY started_at DESC LIMIT ?)",
            (most,),
        ).fetchall()

    def holds_since_start(self, run_id: str) -> int:
        """Return how often a run was held since an attempt of it was started."""
        (count,) = self.db.execute(
            "SELECT count(*) FROM events WHERE run_id = :run AND kind = 'hold' AND id > "
            "coalesce((SELECT max(id) FROM events WHERE run_id = :run AND kind = 'pick'), 0)",
            {"run": run_id},
        ).fetchone()
        return int(count)

    def open_commands(self) -> list[sqlite3.Row]:
        """Return the commands that have no answer yet, oldest first."""
        return self.db.execute("SELECT * FROM commands WHERE answer IS NULL ORDER BY id").fetchall()

    def answer(self, command_id: int, answer: Mapping[str, Any], *, asked: Mapping[str, Any] | None = None) -> None:
        """Record the answer of a command; to be called inside a transaction. `asked` is kept in place of the payload."""
        self.db.execute(
            "UPDATE commands SET answer = ?, answered_at = ?, payload = coalesce(?, payload) WHERE id = ?",
            (json.dumps(answer, default=str), self._clock.wall(), json.dumps(asked) if asked else None, command_id),
        )


def put_command(path: Path, at: float, verb: str, payload: Mapping[str, Any]) -> int:
    """Insert a durable command for the daemon (the command line's only write); return its id.

    Raises:
        sqlite3.Error: the store cannot be opened or written.
    """
    db = connect(path)
    try:
        cursor = db.execute(
            "INSERT INTO commands (at, verb, payload) VALUES (?, ?, ?)", (at, verb, json.dumps(payload, default=str))
        )
        assert cursor.lastrowid is not None
        return cursor.lastrowid
    finally:
        db.close()
