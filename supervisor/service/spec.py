"""What the service is, said once; launchd's property list and systemd's unit are both made from it."""

import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType

from stoker.supervisor.errors import UsageError

LABEL = "io.github.stoker.stoker"
UNIT = "stoker.service"

_PATH = {
    # launchd gives /usr/bin:/bin:/usr/sbin:/sbin only, without Homebrew.
    "darwin": "/opt/homebrew/bin:/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin",
    "linux": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
}


@dataclass(frozen=True, slots=True)
class ServiceSpec:
    """The daemon as a service of one user.

    Attributes:
        argv: the command; its first part is the absolute path of an interpreter.
        home: Stoker's home folder, also the working directory.
        environment: set in addition to what the service manager gives.
        out_log, err_log: where launchd puts what is printed before the daemon's own log is open (systemd: the journal).
        restart_delay_s: seconds between two starts.
        stop_timeout_s: seconds from SIGTERM to SIGKILL of the daemon (trainers are not touched).
        watchdog_s: seconds without a sign of life after which systemd restarts the daemon.
        label, unit: its name with launchd and with systemd.
    """

    argv: tuple[str, ...]
    home: Path
    out_log: Path
    err_log: Path
    restart_delay_s: int
    stop_timeout_s: int
    environment: Mapping[str, str] = field(default_factory=dict)
    watchdog_s: int = 60
    label: str = LABEL
    unit: str = UNIT

    def __post_init__(self) -> None:
        # Neither format can carry these; a path that has them is a mistake or an attack.
        for text in (*self.argv, str(self.home), str(self.out_log), str(self.err_log), *self.environment.values()):
            if not text.isprintable():
                raise UsageError(
                    f"cannot write a service file: {text!r} holds characters that cannot be printed",
                    hint="choose another folder with --home",
                )
        if str(self.home) != str(self.home).rstrip(" \\"):
            raise UsageError(
                f"cannot write a service file: the home folder {str(self.home)!r} ends in a space or a backslash",
                hint="choose another folder with --home",
            )


def service_spec(
    home: Path, *, python: str = sys.executable, platform: str = sys.platform, user_home: Path | None = None
) -> ServiceSpec:
    """Return the service that runs the daemon of `home`.

    Args:
        home: Stoker's home folder.
        python: the interpreter, by its absolute path and with links kept: behind the link of a virtual environment
            stands an interpreter that does not know Stoker.
        platform: as `sys.platform`.
        user_home: the person's home folder; default: the current user's.
    """
    if not Path(python).is_absolute():
        raise UsageError(f"the interpreter {python!r} has no absolute path", hint="start stoker by its full path")
    mac = platform == "darwin"
    logs = (user_home or Path.home()) / "Library" / "Logs" / "stoker" if mac else home
    home = home.absolute()
    return ServiceSpec(
        argv=(python, "-m", "stoker.supervisor", "--home", str(home), "run"),
        home=home,
        out_log=logs / "launchd.out.log",
        err_log=logs / "launchd.err.log",
        restart_delay_s=30 if mac else 10,
        stop_timeout_s=60 if mac else 90,
        environment=MappingProxyType(
            {"PATH": _PATH["darwin" if mac else "linux"], "PYTHONUNBUFFERED": "1", "PYTHONUTF8": "1"}
        ),
    )
