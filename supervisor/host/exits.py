"""Learn at once that a process has ended, also one that is not our child.

A restarted daemon is not the parent of the trainers that it adopts, so it cannot wait for them. Linux tells through a
pidfd, macOS through kqueue; both are collected behind one descriptor that fits a selector. What neither can watch is
looked at by `poll()`.
"""

import contextlib
import os
import select
import sys
from collections.abc import Callable, Hashable
from typing import Any, Generic, Protocol, Self, TypeVar

from stoker.supervisor.host.boot import process_start, same_process

Key = TypeVar("Key", bound=Hashable)

_POLL_S = 1.0  # how often processes must be looked at that cannot wake anybody


class Source(Protocol):
    """One kernel interface that tells of ends."""

    def watch(self, pid: int) -> None:
        """Begin to watch `pid`.

        Raises:
            ProcessLookupError: it has ended already.
            OSError: it cannot be watched.
        """
        ...

    def forget(self, pid: int) -> None:
        """Stop watching `pid`."""
        ...

    def ended(self) -> list[int]:
        """Return the watched pids that have ended, without waiting. Each is forgotten."""
        ...

    def fileno(self) -> int:
        """Readable when `ended()` has something, or when the descriptor given at the start is readable."""
        ...

    def close(self) -> None:
        """Give all descriptors back."""
        ...


class PidfdSource:
    """Linux: a pidfd for each process, collected by one epoll instance."""

    def __init__(self, wake_fd: int) -> None:
        self._epoll = select.epoll()
        self._epoll.register(wake_fd, select.EPOLLIN)
        self._fds: dict[int, int] = {}  # pid -> pidfd

    def watch(self, pid: int) -> None:
        """See Source."""
        fd = os.pidfd_open(pid)
        try:
            self._epoll.register(fd, select.EPOLLIN)
        except OSError:
            os.close(fd)
            raise
        self._fds[pid] = fd

    def forget(self, pid: int) -> None:
        """See Source."""
        fd = self._fds.pop(pid, None)
        if fd is not None:
            self._epoll.unregister(fd)
            os.close(fd)

    def ended(self) -> list[int]:
        """See Source."""
        ready = {fd for fd, _ in self._epoll.poll(0)}
        gone = [pid for pid, fd in self._fds.items() if fd in ready]
        for pid in gone:
            self.forget(pid)
        return gone

    def fileno(self) -> int:
        """See Source."""
        return self._epoll.fileno()

    def close(self) -> None:
        """See Source."""
        for pid in list(self._fds):
            self.forget(pid)
        self._epoll.close()


class KqueueSource:
    """macOS: one EVFILT_PROC filter for each process.

    Args:
        wake_fd: makes `fileno()` readable too.
        api: the `select` module; tests give a stand-in, because Linux has no kqueue.
    """

    def __init__(self, wake_fd: int, api: Any = select) -> None:
        self._api = api
        self._queue = api.kqueue()
        self._change(api.kevent(wake_fd, filter=api.KQ_FILTER_READ, flags=api.KQ_EV_ADD))
        self._pids: set[int] = set()

    def watch(self, pid: int) -> None:
        """See Source. A zombie counts as ended: the kernel answers ESRCH for it."""
        self._change(self._event(pid, self._api.KQ_EV_ADD | self._api.KQ_EV_ONESHOT))
        self._pids.add(pid)

    def forget(self, pid: int) -> None:
        """See Source."""
        if pid in self._pids:
            self._pids.discard(pid)
            with contextlib.suppress(OSError):  # it ended, and its one-shot filter went with it
                self._change(self._event(pid, self._api.KQ_EV_DELETE))

    def ended(self) -> list[int]:
        """See Source."""
        events = self._queue.control(None, len(self._pids) + 1, 0)
        gone = [event.ident for event in events if event.filter == self._api.KQ_FILTER_PROC]
        self._pids.difference_update(gone)
        return gone

    def fileno(self) -> int:
        """See Source."""
        return int(self._queue.fileno())

    def close(self) -> None:
        """See Source."""
        self._queue.close()

    def _event(self, pid: int, flags: int) -> Any:
        return self._api.kevent(pid, filter=self._api.KQ_FILTER_PROC, flags=flags, fflags=self._api.KQ_NOTE_EXIT)

    def _change(self, event: Any) -> None:
        self._queue.control([event], 0, 0)


class ExitWatch(Generic[Key]):
    """Waits for the end of any number of processes.

    Register it (it has a `fileno()`) for reading in a selector and call `poll()` when it is readable; when
    `interval_s` is set, also at least that often. A pid is given once at a time; the key comes back once.

    Args:
        source: makes the kernel interface, given a descriptor that must wake the selector too; None from it = poll.
            Default: what this system has.
    """

    def __init__(self, source: Callable[[int], Source | None] | None = None) -> None:
        # A process that has already ended when it is added must wake the selector as well: by this pipe.
        self._wake_read, self._wake_write = _pipe()
        self._source = (source or _system_source)(self._wake_read)
        self._keys: dict[int, Key] = {}
        self._polled: dict[int, str] = {}  # pid -> start token, where the kernel does not tell
        self._gone: list[Key] = []

    @property
    def interval_s(self) -> float | None:
        """How often `poll()` must be called even when nothing is readable; None = never."""
        return _POLL_S if self._polled else None

    def fileno(self) -> int:
        """The descriptor for a selector; the same for the life of the watch."""
        return self._source.fileno() if self._source else self._wake_read

    def add(self, pid: int, key: Key, *, started: str | None = None) -> bool:
        """Watch `pid`; return False when it has ended already (the next `poll()` returns its key).

        Args:
            pid: a process of this user.
            key: what `poll()` returns for it.
            started: its start token: another process that has the pid by now counts as ended. Default: whoever has it.
        """
        self.discard(pid)
        self._keys[pid] = key
        watched = self._watch(pid)
        # Looked at only now: with the watch in place the pid cannot change hands unseen.
        now = process_start(pid)
        if now is None or (started is not None and not same_process(pid, started)):
            self._end(pid)
            with contextlib.suppress(BlockingIOError):  # full: then it is readable anyhow
                os.write(self._wake_write, b"\0")
            return False
        if not watched:
            self._polled[pid] = now
        return True

    def discard(self, pid: int) -> None:
        """Stop watching `pid`; its key is not returned."""
        if self._source:
            self._source.forget(pid)
        self._polled.pop(pid, None)
        self._keys.pop(pid, None)

    def poll(self) -> list[Key]:
        """Return the keys of the processes that have ended since the last call, without waiting."""
        with contextlib.suppress(BlockingIOError):
            os.read(self._wake_read, 4096)
        ended = self._source.ended() if self._source else []
        ended += [pid for pid, token in self._polled.items() if not same_process(pid, token)]
        for pid in ended:
            self._end(pid)
        gone, self._gone = self._gone, []
        return gone

    def close(self) -> None:
        """Give the descriptors back."""
        if self._source:
            self._source.close()
        os.close(self._wake_read)
        os.close(self._wake_write)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _watch(self, pid: int) -> bool:
        """Return whether the kernel will tell."""
        if self._source is None:
            return False
        try:
            self._source.watch(pid)
        except OSError:  # it has ended, which the caller sees next; or no descriptor is left: then it is polled
            return False
        return True

    def _end(self, pid: int) -> None:
        """Move the key of `pid` to those that `poll()` returns."""
        if pid in self._keys:
            self._gone.append(self._keys[pid])
        self.discard(pid)


def _pipe() -> tuple[int, int]:
    """Return a pipe that never blocks; Python's pipes are not inherited (PEP 446)."""
    ends = os.pipe()
    for fd in ends:
        os.set_blocking(fd, False)
    return ends


def _system_source(wake_fd: int) -> Source | None:
    """Return what this system has; None = nothing, `poll()` looks by itself."""
    if sys.platform == "darwin":
        return KqueueSource(wake_fd)
    try:
        os.close(os.pidfd_open(os.getpid()))
    except (AttributeError, OSError):  # before Linux 5.3, or forbidden by a sandbox
        return None
    return PidfdSource(wake_fd)
