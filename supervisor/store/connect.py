"""Connections to the SQLite store."""

import sqlite3
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
    db.execute("PRAGMA journal_mode=WAL")
    db.execute("PRAGMA synchronous=FULL")
    db.execute("PRAGMA fullfsync=1")
    db.execute("PRAGMA checkpoint_fullfsync=1")
    db.execute("PRAGMA foreign_keys=1")
    db.executescript(files("stoker.supervisor.store").joinpath("schema.sql").read_text(encoding="utf-8"))
    db.execute("INSERT OR IGNORE INTO meta VALUES ('schema', ?)", (SCHEMA_VERSION,))
    path.chmod(0o600)
    return db


def connect_reading(path: Path) -> sqlite3.Connection:
    """Open the store for reading only.

    Read-write with `query_only`: mode=ro can fail on the recovery of a write-ahead log after a kill.
    """
    db = sqlite3.connect(path, timeout=_BUSY_S, isolation_level=None)
    db.row_factory = sqlite3.Row
    db.execute("PRAGMA query_only=1")
    return db
