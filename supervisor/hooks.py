"""The hook command: run when a run is held, failed or completed, with the event on its standard input."""

import contextlib
import json
import subprocess
from collections.abc import Mapping, Sequence
from typing import Any

import structlog

_LIMIT_S = 60.0
_log = structlog.get_logger("hooks")


class Hooks:
    """Runs hook commands beside the daemon's loop and ends those that hang."""

    def __init__(self) -> None:
        self._running: list[tuple[subprocess.Popen[bytes], float]] = []

    def run(self, command: Sequence[str], event: Mapping[str, Any], now: float) -> None:
        """Start a hook; a hook that cannot be started is logged and disturbs nothing."""
        try:
            process = subprocess.Popen(
                list(command),
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
            )
        except OSError as error:
            _log.warning("hook_failed", command=list(command), error=str(error))
            return
        assert process.stdin is not None
        with contextlib.suppress(BrokenPipeError), process.stdin as pipe:  # it does not want to know, and has ended
            # An event is far smaller than a pipe's buffer, so this never waits for the hook to read.
            pipe.write(json.dumps(event, default=str).encode() + b"\n")
        self._running.append((process, now + _LIMIT_S))

    def reap(self, now: float) -> None:
        """Collect hooks that ended; end those over their time."""
        left = []
        for process, deadline in self._running:
            code = process.poll()
            if code is None and now < deadline:
                left.append((process, deadline))
            elif code is None:
                _log.warning("hook_over_time", pid=process.pid, seconds=_LIMIT_S)
                process.kill()
                left.append((process, now + _LIMIT_S))
            elif code:
                _log.warning("hook_failed", code=code)
        self._running = left

    @property
    def busy(self) -> bool:
        """Whether a hook is still running."""
        return bool(self._running)
