"""The notification protocol, over real sockets."""

import os
import socket
import sys

import pytest

from stoker.supervisor.host.notify import Notifier


@pytest.fixture(name="manager")
def _manager(tmp_path):
    """A service manager's end of the notification socket."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as server:
        server.bind(str(tmp_path / "notify"))
        server.settimeout(5)
        yield server


def test_without_a_manager_every_call_is_a_no_op():
    notifier = Notifier.from_environment({})
    assert not notifier.active
    assert notifier.watchdog_interval_s is None
    assert not any([notifier.ready(), notifier.status("x"), notifier.watchdog(), notifier.stopping()])


def test_messages_as_the_manager_receives_them(manager):
    notifier = Notifier.from_environment({"NOTIFY_SOCKET": manager.getsockname()})
    assert notifier.ready("idle")
    assert notifier.status("2 runs:\nsft-4b at 120/600")
    assert notifier.watchdog()
    assert notifier.stopping()
    received = [manager.recv(4096).decode() for _ in range(4)]
    # A line break in a text must not become a field of its own.
    assert received == ["READY=1\nSTATUS=idle", "STATUS=2 runs: sft-4b at 120/600", "WATCHDOG=1", "STOPPING=1"]


@pytest.mark.skipif(sys.platform != "linux", reason="abstract sockets exist on Linux only")
def test_abstract_socket():
    name = f"stoker-test-{os.getpid()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as server:
        server.bind(f"\0{name}")
        server.settimeout(5)
        assert Notifier(f"@{name}").watchdog()
        assert server.recv(100) == b"WATCHDOG=1"


def test_a_manager_that_is_gone_is_no_error(tmp_path):
    notifier = Notifier(str(tmp_path / "nobody"))
    assert notifier.active
    assert not notifier.ready()


def test_a_manager_that_does_not_read_never_blocks_the_daemon(manager):
    notifier = Notifier(manager.getsockname())
    assert not all(notifier.watchdog() for _ in range(10_000))


def test_nothing_is_left_for_children():
    environment = {"NOTIFY_SOCKET": "/run/notify", "WATCHDOG_USEC": "60000000", "WATCHDOG_PID": "1", "HOME": "/root"}
    Notifier.from_environment(environment)
    assert environment == {"HOME": "/root"}


@pytest.mark.parametrize(
    ("usec", "watched", "expected"),
    [
        ("60000000", "42", 30.0),
        ("60000000", None, 30.0),
        ("60000000", "43", None),  # meant for another process
        ("0", "42", None),
        ("soon", "42", None),
        (None, None, None),
    ],
)
def test_watchdog_interval_is_half_the_limit(usec, watched, expected):
    given = {"NOTIFY_SOCKET": "/run/notify", "WATCHDOG_USEC": usec, "WATCHDOG_PID": watched}
    environment = {name: value for name, value in given.items() if value is not None}
    assert Notifier.from_environment(environment, pid=42).watchdog_interval_s == expected


@pytest.mark.parametrize("address", ["", "/", "@", "relative", "vsock:2:1234"])
def test_addresses_that_are_no_socket_of_this_host(address):
    assert not Notifier(address, watchdog_interval_s=1.0).active
    assert Notifier(address, watchdog_interval_s=1.0).watchdog_interval_s is None
