"""The macOS side of ExitWatch against a stand-in for the kernel, which follows kqueue(2)."""

import errno
import os
from dataclasses import dataclass, field

import pytest

from stoker.supervisor.host.exits import ExitWatch, KqueueSource


@dataclass(frozen=True)
class Event:
    ident: int
    filter: int
    flags: int
    fflags: int = 0


@dataclass
class Kernel:
    """`select` of a Mac: EV_ADD on a pid that has ended is ESRCH, ONESHOT filters go when they fire."""

    KQ_FILTER_READ: int = -1
    KQ_FILTER_PROC: int = -5
    KQ_EV_ADD: int = 1
    KQ_EV_DELETE: int = 2
    KQ_EV_ONESHOT: int = 16
    KQ_NOTE_EXIT: int = 0x80000000
    alive: set[int] = field(default_factory=set)
    filters: dict[tuple[int, int], Event] = field(default_factory=dict)
    closed: bool = False
    error: int | None = None

    def kqueue(self):
        return self

    def kevent(self, ident, *, filter, flags, fflags=0):  # noqa: A002 - the name is select.kevent's
        return Event(ident, filter, flags, fflags)

    def control(self, changes, max_events, timeout):
        assert timeout == 0
        for event in changes or ():
            name = (event.ident, event.filter)
            if event.flags & self.KQ_EV_DELETE:
                if self.filters.pop(name, None) is None:
                    raise FileNotFoundError
                continue
            if event.filter == self.KQ_FILTER_PROC:
                assert event.fflags == self.KQ_NOTE_EXIT
                if self.error:
                    raise OSError(self.error, os.strerror(self.error))
                if event.ident not in self.alive:
                    raise ProcessLookupError
            self.filters[name] = event
        fired = [
            event
            for event in self.filters.values()
            if event.filter == self.KQ_FILTER_PROC and event.ident not in self.alive
        ]
        for event in fired[:max_events]:
            del self.filters[event.ident, event.filter]
        return fired[:max_events]

    def fileno(self):
        return 99

    def close(self):
        self.closed = True


@pytest.fixture(name="kernel")
def _kernel(monkeypatch):
    kernel = Kernel()
    module = "stoker.supervisor.host.exits"
    monkeypatch.setattr(f"{module}.process_start", lambda pid: "then" if pid in kernel.alive else None)
    monkeypatch.setattr(f"{module}.same_process", lambda pid, token: pid in kernel.alive and token == "then")
    return kernel


@pytest.fixture(name="watch")
def _watch(kernel):
    with ExitWatch(lambda wake_fd: KqueueSource(wake_fd, kernel)) as watch:
        yield watch


def test_one_end_is_told_once(kernel, watch):
    kernel.alive = {10, 11}
    assert watch.add(10, "ten")
    assert watch.add(11, "eleven")
    assert watch.fileno() == 99
    assert watch.interval_s is None
    assert watch.poll() == []
    kernel.alive = {11}
    assert watch.poll() == ["ten"]
    assert watch.poll() == []


def test_already_ended_when_added(watch):
    assert not watch.add(10, "ten")
    assert watch.poll() == ["ten"]


def test_another_process_has_the_pid_by_now(kernel, watch):
    kernel.alive = {10}
    assert not watch.add(10, "ten", started="before")
    assert watch.poll() == ["ten"]
    assert not [name for name in kernel.filters if name[0] == 10]


def test_discarded_is_not_told(kernel, watch):
    kernel.alive = {10}
    watch.add(10, "ten")
    watch.discard(10)
    kernel.alive = set()
    assert watch.poll() == []


def test_what_the_kernel_refuses_is_polled(kernel, watch):
    kernel.alive, kernel.error = {10}, errno.EACCES
    assert watch.add(10, "ten")
    assert watch.interval_s == 1.0
    kernel.alive = set()
    assert watch.poll() == ["ten"]
    assert watch.interval_s is None
