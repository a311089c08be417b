"""Virtual environments with other versions of mlx-lm, made once and kept below the test cache: interpreters for
`stoker.python`.
"""

import fcntl
import hashlib
import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path

import pytest
from harness_trainer import CACHE

ENVIRONMENTS = CACHE / "envs"
NEWEST = "newest"
_BACKEND = "mlx[cpu]" if sys.platform == "linux" else "mlx"
# Each mlx-lm with an mlx of its time; the newest of both is whatever the registry has today.
REQUIREMENTS = {
    "0.30.7": ("mlx-lm==0.30.7", f"{_BACKEND}==0.30.6"),
    "0.31.3": ("mlx-lm==0.31.3", f"{_BACKEND}==0.31.2"),
    NEWEST: ("mlx-lm", _BACKEND),
}
_VERSIONS = """
import importlib.metadata, json, platform
print(json.dumps({"python": platform.python_version()} | {
    name.replace("-", "_"): importlib.metadata.version(name) for name in ("mlx", "mlx-lm", "numpy")
}))
"""
_UNREACHABLE = ("connection", "network", "resolve", "timed out", "no matching distribution", "could not find a version")


@dataclass(frozen=True)
class Interpreter:
    """A Python in which mlx-lm is installed and Stoker is not."""

    name: str
    python: Path

    @property
    def site(self) -> Path:
        """Its site-packages."""
        return next((self.python.parents[1] / "lib").glob("python*/site-packages"))

    @cached_property
    def versions(self) -> dict[str, str]:
        """Of what decides about results, under the names that the trainer uses."""
        text = subprocess.run([self.python, "-c", _VERSIONS], capture_output=True, text=True, check=True).stdout
        return {str(name): str(value) for name, value in json.loads(text).items()}


@cache
def interpreter(name: str) -> Interpreter:
    """The environment of that name, made now if there is none; skips the test when the registry cannot be reached."""
    wanted = REQUIREMENTS[name]
    key = hashlib.sha256(" ".join([sys.version, *wanted]).encode()).hexdigest()[:8]
    folder = ENVIRONMENTS / f"{name}-{key}"
    made = Interpreter(name, folder / "bin" / "python")
    with _alone(folder):
        complete = folder / "complete"  # written last: without it an interrupted creation starts again
        known = complete.exists()
        if known and name != NEWEST:
            return made
        complete.unlink(missing_ok=True)
        if not known:
            _run(sys.executable, "-m", "venv", "--clear", folder)
        done = _install(made.python, wanted)
        if done.returncode and not known:
            _give_up(name, done.stdout + done.stderr)
        complete.write_text(json.dumps(made.versions) + "\n")  # an upgrade that found no registry has changed nothing
    return made


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """One process makes an environment; others wait for it."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with folder.with_name(f"{folder.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _install(python: Path, wanted: tuple[str, ...]) -> "subprocess.CompletedProcess[str]":
    options = ["--quiet", "--disable-pip-version-check", "--retries", "1", "--upgrade"]
    command = [python, "-m", "pip", "install", *options, *wanted]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def _give_up(name: str, output: str) -> None:
    if any(word in output.lower() for word in _UNREACHABLE):
        pytest.skip(f"no environment with mlx-lm {name}: the package registry gave none: {output.strip()[-300:]}")
    raise AssertionError(f"cannot make the environment with mlx-lm {name}:\n{output[-3000:]}")


def _run(*words: object) -> None:
    done = subprocess.run([*map(str, words)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
