"""From what a person types to a run: its id, a unique prefix of it, or its name (the newest run of that name)."""

import sqlite3

from stoker.supervisor.errors import UnknownRunError


def find_run(db: sqlite3.Connection, reference: str) -> str:
    """Return the run_id that `reference` means.

    Raises:
        UnknownRunError: nothing matches, or several do; the message lists them.
    """
    exact = db.execute("SELECT run_id FROM runs WHERE run_id = ?", (reference,)).fetchone()
    if exact is not None:
        return str(exact["run_id"])
    named = db.execute("SELECT run_id FROM runs WHERE name = ? ORDER BY seq DESC LIMIT 1", (reference,)).fetchone()
    if named is not None:
        return str(named["run_id"])
    escaped = reference.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")
    rows = db.execute(
        "SELECT run_id FROM runs WHERE run_id LIKE ? ESCAPE '\\' ORDER BY seq DESC LIMIT 6", (f"{escaped}%",)
    ).fetchall()
    if reference and len(rows) == 1:
        return str(rows[0]["run_id"])
    if reference and rows:
        several = ", ".join(row["run_id"] for row in rows)
        raise UnknownRunError(f"{reference} could mean {several}", hint="type more of it")
    raise UnknownRunError(f"there is no run {reference!r}", hint="stoker runs lists all of them")
