"""ExitWatch and the identity of processes, with real processes."""

import os
import select
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from stoker.supervisor.host.boot import boot_id, process_start, same_process
from stoker.supervisor.host.exits import ExitWatch

_SLEEP = [sys.executable, "-I", "-S", "-c", "import time; time.sleep(60)"]
# Starts a sleeper, prints its pid and ends: the sleeper is then nobody's child that we know of.
_ORPHAN = (
    "import subprocess, sys; "
    "quiet = subprocess.DEVNULL; "
    "print(subprocess.Popen(sys.argv[1:], stdout=quiet, stderr=quiet, start_new_session=True).pid)"
)


@pytest.fixture(name="child")
def _child():
    with subprocess.Popen(_SLEEP) as process:
        yield process
        process.kill()


@pytest.fixture(name="stranger")
def _stranger():
    """The pid of a process that is not our child."""
    made = subprocess.run([sys.executable, "-c", _ORPHAN, *_SLEEP], capture_output=True, text=True, check=True)
    pid = int(made.stdout)
    token = process_start(pid)
    yield pid
    if same_process(pid, token):
        os.kill(pid, signal.SIGKILL)


@pytest.fixture(name="watch", params=["kernel", "polling"])
def _watch(request):
    with ExitWatch(None if request.param == "kernel" else lambda _: None) as watch:
        yield watch


def _ended(watch, count, timeout=20.0):
    """Collect `count` keys the way a daemon does: wait for the descriptor, or for the interval."""
    keys = []
    for _ in range(200):
        wait = watch.interval_s
        select.select([watch], [], [], timeout if wait is None else min(wait, 0.1))
        keys += watch.poll()
        if len(keys) >= count:
            return keys
    pytest.fail(f"only {keys} ended")


def test_child(watch, child):
    assert watch.add(child.pid, "child")
    assert watch.poll() == []
    child.kill()
    # Nobody has reaped it: a zombie has ended.
    assert _ended(watch, 1) == ["child"]
    assert watch.poll() == []


def test_process_that_is_not_our_child(watch, stranger):
    assert watch.add(stranger, ("run", 3))
    with pytest.raises(ChildProcessError):
        os.waitpid(stranger, os.WNOHANG)
    os.kill(stranger, signal.SIGKILL)
    assert _ended(watch, 1) == [("run", 3)]


def test_two_at_once(watch, child, stranger):
    watch.add(child.pid, "child")
    watch.add(stranger, "stranger")
    child.kill()
    os.kill(stranger, signal.SIGTERM)
    assert sorted(_ended(watch, 2)) == ["child", "stranger"]


def test_ended_before_it_was_added_wakes_the_selector(watch, child):
    child.kill()
    child.wait()
    assert not watch.add(child.pid, "child")
    readable, _, _ = select.select([watch], [], [], 5)
    assert readable
    assert watch.poll() == ["child"]
    assert select.select([watch], [], [], 0)[0] == []


def test_pid_of_another_process_counts_as_ended(watch, child):
    assert not watch.add(child.pid, "old owner", started="1")
    assert watch.poll() == ["old owner"]
    assert watch.add(child.pid, "owner", started=process_start(child.pid))


def test_discard(watch, child):
    watch.add(child.pid, "child")
    watch.discard(child.pid)
    child.kill()
    child.wait()
    assert watch.poll() == []


def test_no_descriptor_is_inherited_or_left(child):
    fds = Path("/dev/fd")
    before = len(list(fds.iterdir()))
    with ExitWatch() as watch:
        watch.add(child.pid, "child")
        assert not os.get_inheritable(watch.fileno())
    assert len(list(fds.iterdir())) == before


def test_boot_id_is_stable():
    assert boot_id() == boot_id() != ""


def test_identity_of_a_process(child):
    token = process_start(child.pid)
    assert token
    assert same_process(child.pid, token)
    assert not same_process(child.pid, None)
    assert not same_process(child.pid, "0")
    assert not same_process(os.getpid(), token)
    child.kill()
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    assert process_start(child.pid) is None, "a zombie does not run"
    child.wait()
    assert process_start(child.pid) is None


@pytest.mark.skipif(sys.platform != "linux", reason="/proc")
def test_a_name_full_of_parentheses_does_not_confuse_the_start(tmp_path):
    program = tmp_path / "a) R 1 (b"
    program.symlink_to(sys.executable)
    with subprocess.Popen([program, *_SLEEP[1:]]) as process:
        token = process_start(process.pid)
        process.kill()
    assert token is not None
    assert token.isdecimal()
    assert int(token) > 1000


def test_start_on_a_mac_tolerates_a_clock_that_was_set(child):
    """psutil's times stand in for a Mac's: they also come from the wall clock."""
    token = process_start(child.pid, platform="darwin")
    assert same_process(child.pid, token, platform="darwin")
    assert same_process(child.pid, str(float(token) + 30), platform="darwin")
    assert not same_process(child.pid, str(float(token) + 300), platform="darwin")
    assert not same_process(child.pid, "rubbish", platform="darwin")
