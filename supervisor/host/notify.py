"""Tell the service manager how the daemon is: systemd's notification protocol, which is one datagram.

Without $NOTIFY_SOCKET (launchd, a terminal, tests) every call is a no-op.
"""

import os
import socket
from collections.abc import MutableMapping
from typing import Self

_VARIABLES = ("NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID")


class Notifier:
    """Sends READY, STATUS, WATCHDOG and STOPPING to the manager that started this process.

    Attributes:
        watchdog_interval_s: how often `watchdog()` must be called, half of the manager's limit; None = no watchdog.
    """

    def __init__(self, address: str | None = None, *, watchdog_interval_s: float | None = None) -> None:
        # `@name` is a socket without a file (Linux). Anything else that is no absolute path (`vsock:...`) is for
        # virtual machines, not for a service on a host.
        usable = address is not None and len(address) > 1 and address[0] in "/@"
        self._address = address if usable else None
        self.watchdog_interval_s = watchdog_interval_s if self._address else None

    @classmethod
    def from_environment(cls, environment: MutableMapping[str, str] | None = None, *, pid: int | None = None) -> Self:
        """Take the manager's variables *out of* the environment (default: the process's own) and return a notifier.

        They are taken out so that no trainer, shim or hook command can speak in the daemon's name.
        """
        env = os.environ if environment is None else environment
        address, usec, watched = (env.pop(name, None) for name in _VARIABLES)
        mine = watched is None or watched == str(os.getpid() if pid is None else pid)
        limit = int(usec) if usec is not None and usec.isdecimal() and mine else 0
        return cls(address, watchdog_interval_s=limit / 2e6 if limit else None)

    @property
    def active(self) -> bool:
        """Whether a manager listens."""
        return self._address is not None

    def ready(self, status: str = "") -> bool:
        """The state is loaded; the daemon takes jobs."""
        return self._send("READY=1", *_status(status))

    def status(self, text: str) -> bool:
        """One line that `systemctl status` shows."""
        return self._send(*_status(text))

    def watchdog(self) -> bool:
        """The main loop is alive. Call it from the loop itself, never from a thread of its own."""
        return self._send("WATCHDOG=1")

    def stopping(self, status: str = "") -> bool:
        """The daemon ends because it was asked to."""
        return self._send("STOPPING=1", *_status(status))

    def _send(self, *fields: str) -> bool:
        """Send one datagram; return whether it was handed over. Never waits and never raises."""
        if self._address is None or not fields:
            return False
        address = f"\0{self._address[1:]}" if self._address[0] == "@" else self._address
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as channel:
                channel.setblocking(False)
                channel.sendto("\n".join(fields).encode(), address)
        except OSError:
            # A manager that is restarting, or slow, must not stop training: the next message says it again.
            return False
        return True


def _status(text: str) -> tuple[str, ...]:
    """Return the STATUS field: one line, whatever the text holds; nothing for an empty text."""
    line = " ".join(text.split())
    return (f"STATUS={line}",) if line else ()
