"""Whether this machine is known to repeat itself: two stock runs of one configuration end in the same bytes.

On Linux that was shown for the CPU and for CUDA. Elsewhere, on a Mac, `stoker doctor --exact` decides and keeps its
verdicts in the home folder; the daemon hands them on and the trainer, which alone knows its device, looks for its own.
A verdict that two runs differ counts everywhere. Standard library only.
"""

import os
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Self

VERSIONS = ("python", "mlx", "mlx_lm", "numpy", "stoker")  # a verdict is worth nothing under others
COMMAND = "stoker doctor --exact"


@dataclass(frozen=True, slots=True)
class Machine:
    """What a verdict depends on.

    Attributes:
        device: that mlx computes on, e.g. "gpu Apple M3 Ultra".
        system: "Linux", or "Darwin 25.5.0": Metal's drivers and compiler come with macOS.
        versions: by the names in VERSIONS.
    """

    device: str
    system: str
    versions: Mapping[str, str]

    @classmethod
    def here(cls, device: str, versions: Mapping[str, str]) -> Self:
        """The one it is called on, with the device and the versions of the interpreter that trains."""
        return cls(device, this_system(), {name: versions[name] for name in VERSIONS})

    def as_json(self) -> dict[str, Any]:
        """The form in which a verdict names it."""
        return asdict(self)

    def __str__(self) -> str:
        versions = ", ".join(f"{name.replace('_', '-')} {version}" for name, version in self.versions.items())
        return f"{self.device}, {self.system}, {versions}"


def this_system() -> str:
    """The operating system, with its version where results may depend on it.

    The kernel's version, because macOS tells another version of itself to interpreters that were built long ago.
    """
    system = os.uname()
    return "Linux" if system.sysname == "Linux" else f"{system.sysname} {system.release}"


def needs_verdict(system: str) -> bool:
    """Whether nothing was shown in general for machines under this system."""
    return system != "Linux"


def verdict_on(machine: Machine, verdicts: Iterable[Mapping[str, Any]]) -> bool | None:
    """What the newest verdict on this very machine says; None without one."""
    found = [verdict.get("exact") is True for verdict in verdicts if verdict.get("machine") == machine.as_json()]
    return found[-1] if found else None


def machine_is_proved(machine: Machine, verdicts: Iterable[Mapping[str, Any]]) -> bool:
    """Whether results on this machine may be called exact; `verdicts` are those of exactness.json, oldest first."""
    verdict = verdict_on(machine, verdicts)
    return verdict is True or (verdict is None and not needs_verdict(machine.system))


def doubt(machine: Machine, verdicts: Iterable[Mapping[str, Any]]) -> str:
    """Why they may not, and what to do; empty where they may."""
    known = tuple(verdicts)
    if machine_is_proved(machine, known):
        return ""
    if verdict_on(machine, known) is None:
        return f"nobody has tried whether two runs agree on {machine}; run: {COMMAND}"
    return f"runs were found to differ on {machine}; to try again, run: {COMMAND}"
