"""The sleep inhibitor: what is started, what it inherits, when it ends."""

import os
import subprocess
import sys
import time

import pytest

from stoker.supervisor.host import waiter
from stoker.supervisor.host.inhibit import inhibitor_argv, start_inhibitor

_SLEEP = [sys.executable, "-I", "-S", "-c", "import time; time.sleep(60)"]
# Records what it was given; then, like the real one, lives as long as its command.
_FAKE_INHIBIT = """#!{python} -IS
import os, subprocess, sys
with open({record!r}, "w") as f:
    print(*sys.argv[1:], sep="\\n", file=f)
    open_fds = [int(n) for n in os.listdir("/dev/fd") if os.path.exists("/dev/fd/" + n)]
    print("fds", *sorted(n for n in open_fds if n != f.fileno()), file=f)
    print("session", os.getsid(0) == os.getpid(), file=f)
sys.exit(subprocess.call(sys.argv[sys.argv.index("--") + 1:]))
"""


@pytest.fixture(name="trainer")
def _trainer():
    with subprocess.Popen(_SLEEP) as process:
        yield process
        process.kill()


@pytest.fixture(name="tools")
def _tools(tmp_path, monkeypatch):
    """A PATH with nothing on it but what a test puts there."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))
    return folder


def _tool(folder, name, text):
    path = folder / name
    path.write_text(text)
    path.chmod(0o755)
    return str(path)


def test_macos_never_keeps_the_display_awake(tools):
    caffeinate = _tool(tools, "caffeinate", "#!/bin/sh\n")
    argv = inhibitor_argv(42, platform="darwin")
    assert argv == (caffeinate, "-i", "-m", "-s", "-w", "42")
    assert not {"-d", "-u"} & set(argv)


def test_linux_command(tools):
    inhibit = _tool(tools, "systemd-inhibit", "#!/bin/sh\n")
    argv = inhibitor_argv(42, platform="linux")
    assert argv[:5] == (inhibit, "--what=sleep:idle", "--who=stoker", "--why=training is running", "--mode=block")
    assert argv[-1] == "42"


@pytest.mark.parametrize("platform", ["darwin", "linux"])
def test_no_tool_no_inhibitor(tools, platform):
    assert inhibitor_argv(42, platform=platform) is None
    assert start_inhibitor(os.getpid()) is None


@pytest.mark.skipif(sys.platform != "linux", reason="the Linux side")
def test_lives_as_long_as_the_trainer_and_inherits_nothing(tools, tmp_path, trainer):
    record = tmp_path / "record"
    _tool(tools, "systemd-inhibit", _FAKE_INHIBIT.format(python=sys.executable, record=str(record)))
    with (tmp_path / "lease").open("w") as lease:
        os.set_inheritable(lease.fileno(), True)
        inhibitor = start_inhibitor(trainer.pid)
        assert inhibitor is not None
        with inhibitor:
            _until(lambda: record.exists() and "session" in record.read_text())
            given = record.read_text().splitlines()
            assert "fds 0 1 2" in given, "an inherited lease would outlive the trainer"
            assert "session True" in given
            assert inhibitor.poll() is None
            trainer.kill()
            trainer.wait()
            assert inhibitor.wait(timeout=20) == 0


@pytest.mark.skipif(sys.platform != "linux", reason="the Linux side")
def test_a_refusal_is_nothing_but_an_inhibitor_that_has_ended(tools, trainer):
    _tool(tools, "systemd-inhibit", "#!/bin/sh\necho 'Failed to inhibit: Access denied' >&2\nexit 1\n")
    with start_inhibitor(trainer.pid) as inhibitor:
        assert inhibitor.wait(timeout=20) == 1
    assert trainer.poll() is None


def test_a_tool_that_cannot_be_executed_is_no_error(tools):
    name = "caffeinate" if sys.platform == "darwin" else "systemd-inhibit"
    _tool(tools, name, "#!/no/such/interpreter\n")
    assert start_inhibitor(os.getpid()) is None


def test_waiter_returns_at_once_when_nobody_is_there(trainer):
    trainer.kill()
    trainer.wait()
    waiter.wait(trainer.pid)


def test_waiter_without_pidfd(trainer, monkeypatch):
    monkeypatch.delattr(os, "pidfd_open", raising=False)
    naps = []

    def nap(seconds):
        naps.append(seconds)
        trainer.kill()
        trainer.wait()

    monkeypatch.setattr(time, "sleep", nap)
    waiter.wait(trainer.pid)
    assert naps == [30.0]


def _until(condition, timeout=20.0):
    end = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)
