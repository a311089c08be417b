"""Connections to the SQLite store."""

import sqlite3
import time
from importlib.resources import files
from pathlib import Path

SCHEMA_VERSION = "1"
_BUSY_S = 10.0  # another process holds the write lock: the command line writes one row at a time


def connect(path: Path) -> sqlite3.Connection:
    """Open the store for writing, making it when it is not there.

    `synchronous=FULL` flushes each commit; on macOS `fullfsync` carries it through the drive's cache (plain fsync does
    not: Apple's fsync(2)).

    Raises:
        sqlite3.Error: not a database, no space, no permission.
    """
    db = sqlite3.connect(path, timeout=_BUSY_S, isolation_level=None)
    db.row_factory = sqlite3.Row
    _use_wal(db)
    db.execute("PRAGMA synchronous=FULL")
    db.execute("PRAGMA fullfsync=1")
    db.execute("PRAGMA checkpoint_fullfsync=1")
    db.execute("PRAGMA foreign_keys=1")
    db.execute("PRAGMA secure_delete=1")  # secrets in an answered command are overwritten, not only forgotten
    db.executescript(files("stoker.supervisor.store").joinpath("schema.sql").read_text(encoding="utf-8"))
    db.execute("INSERT OR IGNORE INTO meta VALUES ('schema', ?)", (SCHEMA_VERSION,))
    path.chmod(0o600)
    return db


def _use_wal(db: sqlite3.Connection) -> None:
    """Switch to the write-ahead log. SQLite's own patience does not cover two processes that make one store at once."""
    deadline = time.monotonic() + _BUSY_S
    while True:
        try:
            db.execute("PRAGMA journal_mode=WAL")
        except sqlite3.OperationalError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.02)  # by hand: tenacity takes longer to import than `stoker status` may take
        else:
            return


def connect_reading(path: Path) -> sqlite3.Connection:
    """Open the store for reading only.

    Read-write with `query_only`: mode=ro can fail on the recovery of a write-ahead log after a kill.
    """
    db = sqlite3.connect(path, timeout=_BUSY_S, isolation_level=None)
    db.row_factory = sqlite3.Row
    db.execute("PRAGMA query_only=1")
    return db
