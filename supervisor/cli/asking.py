"""Ask the daemon: put a durable row into `commands`, wake it, wait for the answer."""

import json
import sqlite3
import time
from collections.abc import Mapping
from typing import Any

from stoker.supervisor.errors import DaemonNotRunningError, StokerError
from stoker.supervisor.instance import running_pid
from stoker.supervisor.paths import Home
from stoker.supervisor.store.connect import connect_reading
from stoker.supervisor.store.read import Reader
from stoker.supervisor.store.write import put_command

_PATIENCE_S = 5.0
_LOOK_S = 0.01


def ask(home: Home, verb: str, payload: Mapping[str, Any]) -> dict[str, Any]:
    """Return the daemon's answer.

    Raises:
        DaemonNotRunningError: no daemon; the command stays and is carried out when one starts.
        StokerError: no answer within five seconds, or the answer is an error.
    """
    home.create()
    try:
        command = put_command(home.database, time.time(), verb, payload)
    except sqlite3.Error as error:
        raise StokerError(f"cannot write {home.database}: {error}", hint="stoker doctor says more") from error
    home.wake.touch(mode=0o600)
    if running_pid(home.lock) is None:
        raise DaemonNotRunningError(
            f"no daemon runs for {home.dir}; the command is kept and will be carried out when one starts",
            hint="start it: stoker run, or stoker install",
        )
    answer = _wait(home, command)
    if answer is None:
        raise StokerError(
            f"the daemon has not answered within {_PATIENCE_S:.0f} s; the command is kept and will be carried out",
            hint=f"see {home.log}",
        )
    if not answer.get("ok") and "error" in answer:
        raise StokerError(answer["error"], hint=answer.get("hint", ""), exit_code=answer.get("exit_code", 1))
    return answer


def _wait(home: Home, command: int) -> dict[str, Any] | None:
    db = connect_reading(home.database)
    deadline = time.monotonic() + _PATIENCE_S
    try:
        while time.monotonic() < deadline:
            row = db.execute("SELECT answer FROM commands WHERE id = ?", (command,)).fetchone()
            if row is not None and row["answer"] is not None:
                answer: dict[str, Any] = json.loads(row["answer"])
                return answer
            time.sleep(_LOOK_S)
    finally:
        db.close()
    return None


def act(home: Home, verb: str, reference: str, *, as_json: bool, **options: Any) -> None:
    """Carry out a verb on a run and print the answer.

    The reference is resolved now: a command that waits for a daemon must not mean a newer run of that name by then.

    Raises:
        UnknownRunError: no such run.
        StokerError: see ask.
    """
    with Reader(home) as reader:
        run_id = reader.find(reference)
    answer = ask(home, verb, {"run": run_id, **options})
    if as_json:
        print(json.dumps({key: answer.get(key) for key in ("run_id", "state", "text")}))
    else:
        print(f"{answer['run_id']} is {answer['state']}: {answer['text']}")
