"""Install, uninstall and look at the service with systemd's user manager."""

import getpass
import shlex
from dataclasses import dataclass, field
from pathlib import Path

from stoker.supervisor.files import write_atomic
from stoker.supervisor.host.command import Completed, Run, run_command
from stoker.supervisor.service import systemd
from stoker.supervisor.service.spec import ServiceSpec
from stoker.supervisor.service.state import Outcome, ServiceError, ServiceState, read_file

_LINGER = Path("/var/lib/systemd/linger")
_START_S = 330.0  # `start` of a notify service returns when it is ready: TimeoutStartSec and some
_PROPERTIES = "LoadState,ActiveState,SubState,MainPID,NRestarts,Result"
_UP = {"active", "activating", "reloading", "deactivating"}


@dataclass(frozen=True, slots=True)
class UserUnit:
    """The service as a unit of one user.

    Attributes:
        user_home: that user's home folder.
        user: that user's name.
        run: runs systemctl and loginctl.
        linger: where systemd remembers who lingers.
    """

    user_home: Path
    user: str = field(default_factory=getpass.getuser)
    run: Run = run_command
    linger: Path = _LINGER

    def preview(self, spec: ServiceSpec) -> tuple[str, ...]:
        """See ServiceManager."""
        file = self._file(spec)
        lines = [f"write {file}"] if read_file(file) != systemd.render(spec) else []
        return (*lines, *_start_commands(spec))

    def install(self, spec: ServiceSpec) -> Outcome:
        """See ServiceManager."""
        file, data = self._file(spec), systemd.render(spec)
        before, done = self.state(spec), []
        if before.reachable and before.running and not before.current:
            # Before the file is written: were this cut off in between, the next try would find the file as it should
            # be and never notice that the daemon still runs by the old one. Trainers go on meanwhile.
            self._must(spec, "stop", spec.unit, timeout_s=spec.stop_timeout_s + 30)
            done.append("stopped the daemon that ran by the old unit")
        if not before.current:
            file.parent.mkdir(parents=True, exist_ok=True)
            write_atomic(file, data, mode=0o644)
            done.append(f"wrote {file}")
        if not before.reachable:
            return Outcome(running=False, done=tuple(done), warnings=(_no_manager(spec, self.user, before.detail),))
        self._must(spec, "daemon-reload")
        self._must(spec, "enable", "--now", spec.unit, timeout_s=_START_S)
        state = self.state(spec)
        if state.running:
            done.append(f"the service runs, pid {state.pid}")
        return Outcome(state.running, tuple(done), self._warnings(spec, state), _see(spec))

    def uninstall(self, spec: ServiceSpec) -> Outcome:
        """See ServiceManager."""
        file, before, done = self._file(spec), self.state(spec), []
        if before.reachable and before.loaded:
            self._must(spec, "disable", "--now", spec.unit, timeout_s=spec.stop_timeout_s + 30)
            done.append("stopped and disabled the service")
        wanted = (
            file.parent / "default.target.wants" / spec.unit
        )  # what `enable` made, where no manager runs to undo it
        for path in (wanted, file):
            if path.is_symlink() or path.exists():
                path.unlink()
                done.append(f"removed {path}")
        if before.reachable and done:
            self._ctl("daemon-reload")
            self._ctl("reset-failed", spec.unit)  # says no when it had not failed
        return Outcome(running=False, done=tuple(done))

    def state(self, spec: ServiceSpec) -> ServiceState:
        """See ServiceManager."""
        file = self._file(spec)
        content = read_file(file)
        answer = self._ctl("show", spec.unit, f"--property={_PROPERTIES}")
        reachable = answer.code == 0
        says = dict(line.split("=", 1) for line in answer.out.splitlines() if "=" in line) if reachable else {}
        pid, result = int(says.get("MainPID", "0")), says.get("Result", "")
        return ServiceState(
            manager="systemd",
            file=file,
            installed=content is not None,
            current=content == systemd.render(spec),
            reachable=reachable,
            loaded=says.get("LoadState") == "loaded",
            running=pid > 0 and says.get("ActiveState") in _UP,
            pid=pid or None,
            detail=f"{says.get('ActiveState', '')} ({says.get('SubState', '')})" if reachable else answer.said,
            starts=int(says["NRestarts"]) if says.get("NRestarts", "").isdecimal() else None,
            last_end="" if result in {"", "success"} else result,
        )

    def lingers(self) -> bool | None:
        """Return whether this user's services run while the user is logged out; None = not known."""
        answer = self.run(["loginctl", "show-user", self.user, "--property=Linger"])
        if answer.code == 0 and answer.out.startswith("Linger="):
            return answer.out.strip() == "Linger=yes"
        return True if (self.linger / self.user).exists() else None

    def _file(self, spec: ServiceSpec) -> Path:
        return self.user_home / ".config" / "systemd" / "user" / spec.unit

    def _ctl(self, *arguments: str, timeout_s: float = 60.0) -> Completed:
        return self.run(["systemctl", "--user", *arguments], timeout_s=timeout_s)

    def _must(self, spec: ServiceSpec, *arguments: str, timeout_s: float = 60.0) -> None:
        answer = self._ctl(*arguments, timeout_s=timeout_s)
        if answer.code != 0:
            raise ServiceError(
                f"systemctl --user {' '.join(arguments)} failed: {answer.said}",
                hint=f"read the reason with: journalctl --user -u {spec.unit} -n 50",
            )

    def _warnings(self, spec: ServiceSpec, state: ServiceState) -> tuple[str, ...]:
        lines = []
        if not state.running:
            lines.append(f"the service does not run ({state.detail}): journalctl --user -u {spec.unit} -n 50")
        if not self.lingers():
            lines.append(linger_hint(self.user))
        return tuple(lines)


def linger_hint(user: str) -> str:
    """Return what to do so that the service survives a logout."""
    return (
        "the service, and training with it, may end when you log out and start only when you log in: "
        f"loginctl enable-linger {user}"
    )


def _start_commands(spec: ServiceSpec) -> tuple[str, ...]:
    return ("systemctl --user daemon-reload", f"systemctl --user enable --now {spec.unit}")


def _no_manager(spec: ServiceSpec, user: str, why: str) -> str:
    commands = " && ".join(_start_commands(spec))
    home = shlex.quote(str(spec.home))
    return (
        f"NOT started: no systemd user manager answers here ({why}). Log in as {user} (over SSH, not with su or sudo; "
        f"`loginctl enable-linger {user}` makes the manager stay) and run: {commands}\n"
        f"Where there is no systemd at all (a container), run the daemon itself: stoker --home {home} run"
    )


def _see(spec: ServiceSpec) -> tuple[str, ...]:
    return (f"systemctl --user status {spec.unit}", f"journalctl --user -u {spec.unit} -f")
