"""What is known of the installed service, and what an installation did: the same facts for launchd and systemd."""

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from stoker.supervisor.errors import StokerError
from stoker.supervisor.service.spec import ServiceSpec


class ServiceError(StokerError):
    """The service manager did not do what it was asked to."""


@dataclass(frozen=True, slots=True)
class ServiceState:
    """The service as its manager sees it.

    Attributes:
        manager: "launchd" or "systemd".
        file: the property list or unit.
        installed: whether that file exists.
        current: whether it says what this Stoker would write.
        reachable: whether the manager answers at all.
        loaded: whether the manager knows the service.
        running: whether the daemon's process runs.
        pid: of the daemon.
        detail: the manager's own word for the state.
        starts: how often it was started (launchd) or restarted (systemd) since it was loaded.
        last_end: how it ended last, in the manager's words; "" = not known.
        process_class: launchd's spawn type, which trainers inherit; "" = not known.
    """

    manager: str
    file: Path
    installed: bool
    current: bool
    reachable: bool = True
    loaded: bool = False
    running: bool = False
    pid: int | None = None
    detail: str = ""
    starts: int | None = None
    last_end: str = ""
    process_class: str = ""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What install or uninstall did.

    Attributes:
        running: whether the service runs now.
        done: what was done, one line each.
        warnings: what a person should know or do.
        see: commands that show the service.
    """

    running: bool
    done: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    see: tuple[str, ...] = ()


class ServiceManager(Protocol):
    """launchd or systemd, for one user."""

    def preview(self, spec: ServiceSpec) -> tuple[str, ...]:
        """Return what `install` would do, one line each, without doing anything."""
        ...

    def install(self, spec: ServiceSpec) -> Outcome:
        """Write the service's file, if it differs, and see to it that the service runs. May be repeated."""
        ...

    def uninstall(self, spec: ServiceSpec) -> Outcome:
        """Stop the daemon and remove the service's file. May be repeated. Trainers go on."""
        ...

    def state(self, spec: ServiceSpec) -> ServiceState:
        """Return what is the case now."""
        ...


def read_file(path: Path) -> bytes | None:
    """Return the content of a service file; None when there is none."""
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return None
