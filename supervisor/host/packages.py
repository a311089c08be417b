"""What an interpreter has installed, asked without importing any of it."""

import contextlib
import json
import sys
from importlib import metadata
from pathlib import Path

from stoker.supervisor.errors import UsageError
from stoker.supervisor.host.command import Run

_NAMES = ("mlx", "mlx-lm", "numpy", "mlx-cpu", "mlx-cuda", "mlx-cuda-12", "mlx-cuda-13")
_ASK = """
import importlib.metadata as m, json, platform, sys
found = {}
for name in sys.argv[1:]:
    try: found[name] = m.version(name)
    except m.PackageNotFoundError: pass
print(json.dumps([platform.python_version(), found]))
"""


def packages(python: Path, run: Run) -> tuple[str, dict[str, str]]:
    """Return the version of an interpreter, and of mlx, its backends, mlx-lm and numpy in it; what is missing is left out.

    Raises:
        UsageError: the interpreter cannot be asked.
    """
    if python == Path(sys.executable):
        found = {}
        for name in _NAMES:
            with contextlib.suppress(metadata.PackageNotFoundError):
                found[name] = metadata.version(name)
        return ".".join(map(str, sys.version_info[:3])), found
    answer = run([str(python), "-I", "-c", _ASK, *_NAMES])
    try:
        version, versions = json.loads(answer.out)
    except ValueError as error:
        raise UsageError(
            f"the interpreter {python} does not work: {answer.said}", hint="name another one with --python"
        ) from error
    return str(version), dict(versions)


def number(version: str) -> tuple[int, ...]:
    """Return `0.32.4` as numbers, to be compared; it ends at the first part that is not a number (`rc1`, `dev0`)."""
    numbers = []
    for part in version.split("."):
        digits = part[: len(part) - len(part.lstrip("0123456789"))]
        if digits:
            numbers.append(int(digits))
        if digits != part:
            break
    return tuple(numbers)
