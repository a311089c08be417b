"""Install, uninstall and look at the service with launchd.

launchctl is no API: it answers late and its words change. Three habits follow. `bootout` returns while the job is still
being ended, so its end is waited for. `bootstrap` answers "5: Input/output error" to nearly anything, so it is repeated
and `print` decides. What `print` says is read with tolerance.
"""

import os
import re
from dataclasses import dataclass, field
from pathlib import Path

from stoker.supervisor.files import write_atomic
from stoker.supervisor.host.command import Completed, Patience, Run, run_command
from stoker.supervisor.service import launchd
from stoker.supervisor.service.spec import ServiceSpec
from stoker.supervisor.service.state import Outcome, ServiceError, ServiceState, read_file

_NO_SUCH_DOMAIN = {112, 125}  # `gui/UID` exists only while that user is logged in at the desktop
_BOOTSTRAP_S = 20.0  # a label stays taken for some seconds after its job is gone
_START_S = 15.0
_EXIT_CONFIG = 78  # launchd could not set the job up: a path that it may not touch


@dataclass(frozen=True, slots=True)
class LaunchAgent:
    """The service as a LaunchAgent of one user.

    Attributes:
        user_home: that user's home folder.
        uid: that user.
        run: runs launchctl.
        patience: waits.
    """

    user_home: Path
    uid: int = field(default_factory=os.getuid)
    run: Run = run_command
    patience: Patience = field(default_factory=Patience)

    def preview(self, spec: ServiceSpec) -> tuple[str, ...]:
        """See ServiceManager."""
        file, domain = self._file(spec), self._domain()
        lines = [f"launchctl enable {domain}/{spec.label}"]
        if read_file(file) != launchd.render(spec):
            lines = [f"launchctl bootout {domain}/{spec.label}   (if it is loaded)", f"write {file}", *lines]
        return (
            *lines,
            f"launchctl bootstrap {domain} {file}   (if it is not loaded)",
            f"launchctl kickstart {domain}/{spec.label}",
        )

    def install(self, spec: ServiceSpec) -> Outcome:
        """See ServiceManager."""
        self._refuse_root()
        file, data, domain = self._file(spec), launchd.render(spec), self._domain()
        done = []
        changed = read_file(file) != data
        loaded = self._find(spec)
        if loaded and (changed or loaded[0] != domain):
            # Before the file is written: were this cut off in between, the next try would find the file as it should
            # be and never notice that launchd still has the old one.
            self._bootout(spec, loaded[0])
            done.append(f"stopped the service that was loaded in {loaded[0]}")
            loaded = None
        if changed:
            for folder in (file.parent, spec.out_log.parent):
                folder.mkdir(parents=True, exist_ok=True)
            write_atomic(file, data, mode=0o644)
            done.append(f"wrote {file}")
        spec.out_log.parent.mkdir(parents=True, exist_ok=True)  # a missing folder ends the job before it starts
        if not loaded:
            domain = self._bootstrap(spec, domain)
            done.append(f"loaded it into {domain}")
        self.run(["launchctl", "kickstart", f"{domain}/{spec.label}"])
        self.patience.until(lambda: self.state(spec).running, timeout_s=_START_S)
        state = self.state(spec)
        if state.running:
            done.append(f"the service runs, pid {state.pid}")
        return Outcome(state.running, tuple(done), self._warnings(spec, domain, state), _see(spec, domain))

    def uninstall(self, spec: ServiceSpec) -> Outcome:
        """See ServiceManager."""
        self._refuse_root()
        done = []
        while loaded := self._find(spec):  # it may have been loaded into both domains
            self._bootout(spec, loaded[0])
            done.append(f"stopped the service and took it out of {loaded[0]}")
        file = self._file(spec)
        if file.exists():
            file.unlink()
            done.append(f"removed {file}")
        return Outcome(running=False, done=tuple(done))

    def state(self, spec: ServiceSpec) -> ServiceState:
        """See ServiceManager."""
        file = self._file(spec)
        content, found = read_file(file), self._find(spec)
        says = found[1] if found else {}
        pid = says.get("pid", "")
        return ServiceState(
            manager="launchd",
            file=file,
            installed=content is not None,
            current=content == launchd.render(spec),
            loaded=found is not None,
            running=says.get("state") == "running",
            pid=int(pid) if pid.isdecimal() else None,
            detail=says.get("state", ""),
            starts=int(says["runs"]) if says.get("runs", "").isdecimal() else None,
            last_end=_last_end(says),
            process_class=says.get("spawn type", ""),
        )

    def _file(self, spec: ServiceSpec) -> Path:
        return self.user_home / "Library" / "LaunchAgents" / f"{spec.label}.plist"

    def _domains(self) -> tuple[str, str]:
        return f"gui/{self.uid}", f"user/{self.uid}"

    def _domain(self) -> str:
        """Return the domain to load into: the desktop's if there is one, else the user's (a login over SSH)."""
        gui, user = self._domains()
        return user if self.run(["launchctl", "print", gui]).code in _NO_SUCH_DOMAIN else gui

    def _find(self, spec: ServiceSpec) -> tuple[str, dict[str, str]] | None:
        """Return the domain in which the service is loaded and what `print` says of it; None = nowhere."""
        for domain in self._domains():
            answer = self.run(["launchctl", "print", f"{domain}/{spec.label}"])
            if answer.code == 0:
                return domain, parse_print(answer.out)
        return None

    def _loaded_in(self, domain: str, spec: ServiceSpec) -> bool:
        return self.run(["launchctl", "print", f"{domain}/{spec.label}"]).code == 0

    def _bootout(self, spec: ServiceSpec, domain: str) -> None:
        """Take the service out of `domain` and wait until it is gone."""
        answer = self.run(["launchctl", "bootout", f"{domain}/{spec.label}"])
        limit = spec.stop_timeout_s + 30.0
        if not self.patience.until(lambda: not self._loaded_in(domain, spec), timeout_s=limit, every_s=1.0):
            raise ServiceError(
                f"cannot stop the service {domain}/{spec.label}: still there after {limit:.0f} s ({answer.said})",
                hint=f"look at it with: launchctl print {domain}/{spec.label}",
            )

    def _bootstrap(self, spec: ServiceSpec, domain: str) -> str:
        """Load the service; return the domain that took it."""
        file = str(self._file(spec))
        last = Completed(0)

        def loaded() -> bool:
            nonlocal domain, last
            # A service that was once switched off stays off for every bootstrap until it is enabled.
            self.run(["launchctl", "enable", f"{domain}/{spec.label}"])
            last = self.run(["launchctl", "bootstrap", domain, file])
            if last.code in _NO_SUCH_DOMAIN:
                domain = self._domains()[1]
            return last.code == 0 or self._loaded_in(domain, spec)

        if not self.patience.until(loaded, timeout_s=_BOOTSTRAP_S, every_s=1.0):
            raise ServiceError(
                f"cannot load {file} into {domain}: {last.said}",
                hint="allow Stoker in System Settings > General > Login Items, then run `stoker install` again",
            )
        return domain

    def _refuse_root(self) -> None:
        if self.uid == 0:
            raise ServiceError(
                "cannot install for root: a LaunchAgent belongs to the person who trains",
                hint="run it without sudo",
            )

    def _warnings(self, spec: ServiceSpec, domain: str, state: ServiceState) -> tuple[str, ...]:
        lines = []
        if domain == self._domains()[1]:
            lines.append("nobody is logged in at the desktop: the service lives in your SSH login's domain")
        if not state.running:
            lines.append(
                f"the service is loaded but does not run ({state.detail or 'no state'}"
                f"{', ' + state.last_end if state.last_end else ''}): read {spec.err_log}"
            )
        return tuple(lines)


def parse_print(text: str) -> dict[str, str]:
    """Return the `key = value` lines at the top level of `launchctl print`.

    Nested blocks are left out: some have a `state` of their own.
    """
    facts: dict[str, str] = {}
    depth = 0
    for line in text.splitlines():
        stripped = line.strip()
        if stripped.endswith(("{", "[")):
            depth += 1
        elif stripped in {"}", "]"}:
            depth -= 1
        elif depth == 1 and (pair := re.match(r"([^=]+?) = (.*)", stripped)):
            facts.setdefault(pair[1], pair[2])
    return facts


def _last_end(says: dict[str, str]) -> str:
    """Return how the job ended last; "" when it never did."""
    code = says.get("last exit code", "(never exited)")
    parts = [says[key] for key in ("last terminating signal", "last exit reason") if key in says]
    if not code.startswith("(") and code != "0":
        parts.append(f"exit code {code}")
    if code.startswith(str(_EXIT_CONFIG)):
        parts.append("launchd may not touch one of its paths")
    return ", ".join(parts)


def _see(spec: ServiceSpec, domain: str) -> tuple[str, ...]:
    return (f"launchctl print {domain}/{spec.label}", f"tail -F {spec.err_log}")
