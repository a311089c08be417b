"""What is wrong with this machine's Stoker, and what to do about it: a list of small checks.

No check changes anything, and none imports mlx.
"""

import contextlib
import os
import shlex
import shutil
import stat
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from stoker.supervisor.errors import UsageError
from stoker.supervisor.exactness import newest_verdict
from stoker.supervisor.host.command import Run, run_command
from stoker.supervisor.host.daemons import is_daemon, processes
from stoker.supervisor.host.disk import free_bytes
from stoker.supervisor.host.guarded import guarded_by
from stoker.supervisor.host.packages import number, packages
from stoker.supervisor.host.power import has_battery, on_battery, parse_settings
from stoker.supervisor.paths import Home
from stoker.supervisor.service.spec import ServiceSpec
from stoker.supervisor.service.state import ServiceManager, ServiceState
from stoker.supervisor.service.systemctl import UserUnit, linger_hint
from stoker.supervisor.settings import load_settings
from stoker.supervisor.trainer.machine import COMMAND, needs_verdict, this_system
from stoker.supervisor.trainer.versions import stoker_version

Level = Literal["ok", "warning", "broken"]

_ROOM_WARNING_GB = 20.0  # three checkpoints of a 0.5B full fine-tuning
# (package, versions below this, on macOS from this major version on, what happens, fix)
_KNOWN_BAD = (
    ("mlx-lm", "0.30", 0, "Stoker's trainer does not know versions this old", "pip install -U mlx-lm"),
    ("mlx", "0.32.1", 27, "on macOS 27 training is many times slower (mlx#4211)", "pip install -U mlx"),
)


@dataclass(frozen=True, slots=True)
class Check:
    """One finding.

    Attributes:
        name: of the check.
        level: "broken" = something cannot work; "warning" = works, but a person should know.
        what: what is the case.
        fix: what to do; "" where nothing is needed.
    """

    name: str
    level: Level
    what: str
    fix: str = ""


@dataclass(frozen=True, slots=True)
class Subject:
    """What is examined.

    Attributes:
        home: Stoker's home.
        spec, manager: the service as this Stoker would install it, and who runs it.
        python: the interpreter that trains.
        user_home: the person's home folder.
        platform: as `sys.platform`.
        system: as verdicts on exactness name it.
        run: runs the system's own tools.
        processes: pid and command line of all processes.
    """

    home: Home
    spec: ServiceSpec
    manager: ServiceManager
    python: Path = field(default_factory=lambda: Path(sys.executable))
    user_home: Path = field(default_factory=Path.home)
    platform: str = sys.platform
    system: str = field(default_factory=this_system)
    run: Run = run_command
    processes: Callable[[], Iterator[tuple[int, list[str]]]] = processes

    @property
    def mac(self) -> bool:
        """Whether this is a Mac."""
        return self.platform == "darwin"


def examine(subject: Subject) -> tuple[Check, ...]:
    """Return all findings, in the order in which they should be read."""
    return tuple(check for look in CHECKS for check in look(subject))


def _interpreter(subject: Subject) -> Iterator[Check]:
    """Python itself and what it has installed: the interpreter that trains, which need not be the daemon's."""
    fix = f"install into it: {subject.python} -m pip install mlx-lm"
    try:
        version, found = packages(subject.python, subject.run)
    except UsageError as error:
        yield Check("interpreter", "broken", error.message, error.hint)
        return
    old = number(version) < (3, 11)
    yield Check(
        "interpreter",
        "broken" if old else "ok",
        f"Python {version}, {subject.python}",
        "use Python 3.11 or newer" if old else "",
    )
    missing = [name for name in ("mlx", "mlx-lm") if name not in found]
    if missing:
        yield Check("packages", "broken", f"{', '.join(missing)} not installed in {subject.python}", fix)
    bad = [row for row in _KNOWN_BAD if _is_bad(row[0], row[1], row[2], found, subject)]
    for name, below, _, what, cure in bad:
        yield Check("packages", "broken", f"{name} {found[name]} is older than {below}: {what}", cure)
    if not missing and not bad:
        yield Check("packages", "ok", ", ".join(f"{name} {found[name]}" for name in ("mlx", "mlx-lm")))
    if not subject.mac and "mlx" in found and not any(name.startswith(("mlx-cpu", "mlx-cuda")) for name in found):
        yield Check("packages", "broken", "mlx has no backend", f"{subject.python} -m pip install 'mlx[cpu]'")


def _compiler(subject: Subject) -> Iterator[Check]:
    """The CPU backend of Linux compiles its kernels with g++ while it trains."""
    if subject.mac:
        return
    found = shutil.which("g++", path=subject.spec.environment.get("PATH"))
    if found:
        yield Check("compiler", "ok", found)
        return
    yield Check(
        "compiler",
        "broken" if not _cuda(subject) else "warning",
        "no g++ on the service's PATH: mlx's CPU backend compiles its kernels with it",
        "install it: apt install g++ (or your distribution's package)",
    )


def _home(subject: Subject) -> Iterator[Check]:
    """The home folder is there, ours, and closed to others."""
    folder = subject.home.dir
    try:
        facts = folder.stat()
    except OSError as error:
        missing = isinstance(error, FileNotFoundError)
        level: Level = "warning" if missing else "broken"
        yield Check("home", level, f"{folder}: {error.strerror}", "stoker install (or stoker run) makes it")
        return
    mode = stat.S_IMODE(facts.st_mode)
    if facts.st_uid != os.getuid():
        yield Check("home", "broken", f"{folder} belongs to another user", "use another one with --home")
    elif mode & 0o077:
        yield Check(
            "home", "warning", f"{folder} is open to others (mode {mode:04o})", f"chmod 700 {shlex.quote(str(folder))}"
        )
    else:
        yield Check("home", "ok", str(folder))


def _disk(subject: Subject) -> Iterator[Check]:
    """Room for checkpoints at the home folder; `disk.min_free` of the settings is what holds runs."""
    try:
        least = load_settings(subject.home.settings).disk.min_free
    except UsageError as error:
        yield Check("settings", "broken", error.message, error.hint)
        return
    try:
        free = free_bytes(subject.home.dir) / 1e9
    except OSError as error:
        yield Check("disk", "broken", f"cannot tell the free space of {subject.home.dir}: {error.strerror}")
        return
    what = f"{free:.1f} GB free at {subject.home.dir}"
    if free < least:
        yield Check("disk", "broken", f"{what}: less than disk.min_free ({least:g} GB), so runs are held", "make room")
    elif free < _ROOM_WARNING_GB:
        yield Check("disk", "warning", f"{what}: little for checkpoints of full fine-tuning", "make room")
    else:
        yield Check("disk", "ok", what)


def _inbox(subject: Subject) -> Iterator[Check]:
    """A file can be made in the inbox: only doing it shows it (read-only volumes, macOS's privacy settings)."""
    inbox = subject.home.inbox
    if not inbox.is_dir():
        yield Check("inbox", "warning", f"{inbox} is not there", "stoker install (or stoker run) makes it")
        return
    try:
        with tempfile.NamedTemporaryFile(dir=inbox, prefix=".doctor-"):  # dot-files are no jobs
            pass
    except OSError as error:
        yield Check("inbox", "broken", f"cannot write into {inbox}: {error.strerror}", "see its owner and mode")
    else:
        yield Check("inbox", "ok", f"drop job files into {inbox}")


def _service(subject: Subject) -> Iterator[Check]:
    """The service is installed as this Stoker would install it, and runs."""
    state = subject.manager.state(subject.spec)
    again = "stoker install"
    if not state.installed:
        what = "not installed: jobs run only while `stoker run` does"
        if not state.reachable:
            what += f"; and {state.manager} does not answer here ({state.detail})"
        yield Check("service", "warning", what, again)
        return
    if not state.reachable:
        yield Check(
            "service",
            "broken",
            f"installed, but no {state.manager} answers here ({state.detail})",
            f"stoker --home {shlex.quote(str(subject.home.dir))} run",
        )
        return
    if not state.running:
        yield Check("service", "broken", f"installed, but it does not run ({_words(state)})", again)
    elif not state.current:
        yield Check("service", "warning", f"runs (pid {state.pid}) as another Stoker installed it", again)
    else:
        yield Check("service", "ok", f"runs, pid {state.pid}")
    if state.process_class and not state.process_class.startswith("interactive"):
        yield Check(
            "process class",
            "broken",
            f"launchd runs the daemon as `{state.process_class}`: trainers inherit it and are many times slower",
            again,
        )


def _linger(subject: Subject) -> Iterator[Check]:
    """Linux: services of a user who is logged out are ended, unless that user lingers."""
    manager = subject.manager
    if not isinstance(manager, UserUnit) or not manager.state(subject.spec).reachable:
        return
    lingers = manager.lingers()
    if lingers:
        yield Check("lingering", "ok", "the service goes on when you log out")
    else:
        yield Check("lingering", "warning", *linger_hint(manager.user).rsplit(": ", 1))


def _daemons(subject: Subject) -> Iterator[Check]:
    """One daemon: two of them, each with its own home, would train on the same GPU."""
    found = [(pid, argv) for pid, argv in subject.processes() if is_daemon(argv)]
    pids = ", ".join(str(pid) for pid, _ in found)
    if len(found) > 1:
        yield Check(
            "daemon",
            "warning",
            f"{len(found)} daemons run (pids {pids}): they do not know of each other's trainers",
            "stop the one you do not want; its trainers go on to their end",
        )
    else:
        yield Check("daemon", "ok", f"runs, pid {pids}" if found else "none runs")


def _privacy(subject: Subject) -> Iterator[Check]:
    """macOS: what the service needs lies where services may not look."""
    if not subject.mac:
        return
    needs = [("Stoker's home", subject.home.dir), ("the interpreter", subject.python)]
    with contextlib.suppress(UsageError):  # told by another check
        needs += [("an inbox", folder) for folder in load_settings(subject.home.settings).inbox]
    guarded = [(name, path, place) for name, path in needs if (place := guarded_by(path, subject.user_home))]
    for name, path, place in guarded:
        yield Check(
            "privacy",
            "warning",
            f"{name} ({path}) lies in {place}, which macOS keeps from services",
            "move it, for example below ~/Stoker, or grant Full Disk Access in System Settings > Privacy & Security to "
            f"{subject.python.resolve()}",
        )
    if not guarded:
        yield Check("privacy", "ok", "keep models and data out of Documents, Desktop, Downloads and iCloud as well")


def _sleep(subject: Subject) -> Iterator[Check]:
    """macOS: what can end or slow a training of days."""
    if not subject.mac:
        return
    settings = parse_settings(subject.run(["pmset", "-g"]).out)
    battery = subject.run(["pmset", "-g", "batt"]).out
    findings = (
        (
            on_battery(battery),
            "the Mac runs on its battery: system sleep is held off on mains power only",
            "plug it in",
        ),
        (has_battery(battery), "a portable Mac sleeps when its lid is closed", "leave it open while it trains"),
        (
            settings.get("displaysleep") == "0",
            "the display never sleeps: the GPU watchdog ends long kernels while it is on",
            "sudo pmset -a displaysleep 10",
        ),
        (
            settings.get("autorestart") == "0",
            "after a power cut the Mac stays off",
            "sudo pmset -a autorestart 1",
        ),
    )
    warnings = [Check("sleep", "warning", what, fix) for holds, what, fix in findings if holds]
    yield from warnings
    if not settings:
        yield Check("sleep", "warning", "pmset did not tell the power settings", "run: pmset -g")
    elif not warnings:
        yield Check("sleep", "ok", "idle sleep is held off while a trainer runs")


def _exactness(subject: Subject) -> Iterator[Check]:
    """Whether somebody has tried that two runs agree here; on Linux only trouble is worth a line."""
    try:
        python, found = packages(subject.python, subject.run)
    except UsageError:
        return  # told by another check
    versions = {"python": python, "stoker": stoker_version()}
    versions |= {name.replace("-", "_"): found.get(name, "absent") for name in ("mlx", "mlx-lm", "numpy")}
    verdict = newest_verdict(subject.home.exactness, subject.system, versions)
    own = subject.python == Path(sys.executable)
    fix = COMMAND if own else f"{COMMAND} --python {shlex.quote(str(subject.python))}"
    if verdict is None and needs_verdict(subject.system):
        yield Check(
            "exactness", "warning", "nobody has tried whether two runs agree here: what resumes is labelled warm", fix
        )
    elif verdict is not None and verdict.get("exact") is not True:
        yield Check(
            "exactness", "warning", f"runs differ here, found {verdict.get('at')}: what resumes is labelled warm", fix
        )
    elif verdict is not None:
        yield Check("exactness", "ok", f"two stock runs and one that was killed agree, found {verdict.get('at')}")


CHECKS: tuple[Callable[[Subject], Iterator[Check]], ...] = (
    _interpreter,
    _compiler,
    _home,
    _disk,
    _inbox,
    _service,
    _linger,
    _daemons,
    _privacy,
    _sleep,
    _exactness,
)


def _is_bad(name: str, below: str, macos: int, found: dict[str, str], subject: Subject) -> bool:
    if name not in found or number(found[name]) >= number(below):
        return False
    if macos == 0:
        return True
    if not subject.mac:
        return False
    return number(subject.run(["sw_vers", "-productVersion"]).out.strip()) >= (macos,)


def _cuda(subject: Subject) -> bool:
    try:
        return any(name.startswith("mlx-cuda") for name in packages(subject.python, subject.run)[1])
    except UsageError:
        return False


def _words(state: ServiceState) -> str:
    starts = f"started {state.starts} times" if state.starts else ""
    return ", ".join(part for part in (state.detail, state.last_end, starts) if part)
