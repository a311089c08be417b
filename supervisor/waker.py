"""What wakes the daemon's loop: signals, dropped files, touched `wake`, ended processes, results of the workers."""

import contextlib
import os
import selectors
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import structlog
from watchdog.events import FileSystemEvent, FileSystemEventHandler
from watchdog.observers import Observer

from stoker.supervisor.host.exits import ExitWatch
from stoker.supervisor.inbox import is_job_name

_log = structlog.get_logger("waker")


class _Touch(FileSystemEventHandler):
    """Wakes the loop for events on paths that matter; the scan that follows is what finds out."""

    def __init__(self, wake: Callable[[], None], matters: Callable[[str], bool]) -> None:
        self._wake = wake
        self._matters = matters

    def on_any_event(self, event: FileSystemEvent) -> None:
        """See watchdog."""
        if event.event_type in {"opened", "closed_no_write"}:
            return
        paths = (os.fsdecode(event.src_path), os.fsdecode(event.dest_path or b""))
        if any(self._matters(path) for path in paths):
            self._wake()


class Waker:
    """One place to wait."""

    def __init__(self, exits: ExitWatch[str], inboxes: tuple[Path, ...], wake_file: Path) -> None:
        self._read, self._write = os.pipe()
        for fd in (self._read, self._write):
            os.set_blocking(fd, False)
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._read, selectors.EVENT_READ)
        self._selector.register(exits.fileno(), selectors.EVENT_READ)
        self._observer: Any = Observer()
        jobs = _Touch(self.wake, lambda path: is_job_name(os.path.basename(path)))  # noqa: PTH119 - for each event
        commands = _Touch(self.wake, lambda path: path == str(wake_file))
        self._observer.start()
        for handler, folder in ((commands, wake_file.parent), *((jobs, inbox) for inbox in inboxes)):
            try:
                self._observer.schedule(handler, str(folder))
            except OSError as error:  # not there, or no watch is left: the loop looks every two seconds all the same
                _log.warning("not_watched", folder=str(folder), error=str(error))
        self.stop_asked = False

    def listen(self) -> None:
        """Let SIGTERM and SIGINT end the loop; SIGHUP is ignored: a closed terminal is no reason to stop."""
        signal.set_wakeup_fd(self._write, warn_on_full_buffer=False)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._stop)
        signal.signal(signal.SIGHUP, signal.SIG_IGN)

    def _stop(self, _number: int, _frame: Any) -> None:
        self.stop_asked = True

    def wake(self) -> None:
        """End the wait that is going on, or the next one; callable from any thread."""
        with contextlib.suppress(BlockingIOError):
            os.write(self._write, b"\0")

    def wait(self, seconds: float) -> None:
        """Wait until something happens, at most so long."""
        self._selector.select(max(0.0, seconds))
        with contextlib.suppress(BlockingIOError):
            os.read(self._read, 4096)

    def close(self) -> None:
        """Stop watching."""
        self._observer.stop()
        self._observer.join()
        self._selector.close()
        os.close(self._read)
        os.close(self._write)
