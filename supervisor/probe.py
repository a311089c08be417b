"""What the training interpreter offers: mlx-lm's defaults and the versions there, found without importing mlx.

A child process of that interpreter looks for the packages and reads mlx-lm's source; nothing of them is executed. The
answer is kept in the cache folder until one of the files it came from changes.
"""

import errno
import hashlib
import json
import os
import subprocess
from pathlib import Path
from typing import Any

from stoker.profiles.facts import TrainerDefaults
from stoker.supervisor.errors import JobError
from stoker.supervisor.files import read_json, write_json

__all__ = ["ProbeError", "TrainerDefaults", "trainer_defaults"]

_VERSION = 1  # of the cached answer; another one is asked for again
_ANOTHER = "name another interpreter: stoker: {python: ...} in a job, --python of stoker doctor"
_TIMEOUT_S = 60.0  # a cold start from a sleeping disk takes seconds; more is a hung mount
_PASSED = ("HOME", "USER", "PATH", "LANG", "LC_ALL", "TMPDIR", "VIRTUAL_ENV", "LD_LIBRARY_PATH", "SYSTEMROOT")

# Runs in any Python 3.8+ with the standard library only. -E and the cleaned path keep the caller's folder out; user
# site-packages stay in, because the trainer sees them too.
_SCRIPT = r"""
import sys
sys.path = [p for p in sys.path if p]
import ast, importlib.util, json, os, platform
from importlib import metadata

def version(name):
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None

def folder(module):
    try:
        spec = importlib.util.find_spec(module)
    except (ImportError, ValueError):
        return None
    places = list(spec.submodule_search_locations or []) if spec else []
    return places[0] if places else None

def tree(path):
    with open(path, "rb") as file:
        return ast.parse(file.read())

def defaults(path):
    for node in tree(path).body:
        targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
        if any(getattr(target, "id", None) == "CONFIG_DEFAULTS" for target in targets):
            return ast.literal_eval(node.value)
    raise ValueError("CONFIG_DEFAULTS is not there")

answer = {"python": platform.python_version(), "errors": {}, "config_defaults": {}, "schedules": [], "files": []}
found = {name: folder(name) for name in ("mlx", "mlx_lm", "numpy")}
answer["found"] = found
answer["packages"] = [n for n in ("datasets", "wandb", "swanlab") if importlib.util.find_spec(n) is not None]
answer["versions"] = {"python": answer["python"], "mlx": version("mlx"), "mlx_lm": version("mlx-lm"),
                      "numpy": version("numpy")}
answer["backends"] = [n for n in ("mlx-cpu", "mlx-metal", "mlx-cuda", "mlx-cuda-12", "mlx-cuda-13") if version(n)]
if found["mlx_lm"]:
    path = os.path.join(found["mlx_lm"], "lora.py")
    answer["files"].append(path)
    try:
        answer["config_defaults"] = defaults(path)
    except (OSError, SyntaxError, ValueError) as error:
        answer["errors"]["mlx_lm"] = "cannot read CONFIG_DEFAULTS from %s: %s" % (path, error)
if found["mlx"]:
    path = os.path.join(found["mlx"], "optimizers", "schedulers.py")
    answer["files"].append(path)
    try:
        answer["schedules"] = sorted(n.name for n in tree(path).body
                                     if isinstance(n, ast.FunctionDef) and n.name != "join_schedules")
    except (OSError, SyntaxError, ValueError):
        pass
answer["files"] += [p for p in sys.path if os.path.isdir(p)]
print("\n" + json.dumps(answer))
"""


class ProbeError(JobError):
    """The interpreter cannot train: it is not there, does not run, or lacks a package."""


def trainer_defaults(
    python: Path, cache_dir: Path, *, timeout_s: float = _TIMEOUT_S, needs_mlx_lm: bool = True
) -> TrainerDefaults:
    """Return what an interpreter offers to training.

    Args:
        python: absolute path of the interpreter.
        cache_dir: where the answer is kept; it may be deleted at any time.
        timeout_s: seconds after which the interpreter counts as hung.
        needs_mlx_lm: refuse an interpreter without mlx, mlx-lm and numpy.

    Raises:
        ProbeError: with what is missing and how to install it.
    """
    place = _cache_file(python, cache_dir)
    answer = _cached(place)
    if answer is None:
        answer = _ask(python, timeout_s)
        stamps = {path: _stamp(path) for path in [str(python), os.path.realpath(python), *answer["files"]]}
        _keep(place, {"v": _VERSION, "python": str(python), "stamps": stamps, "answer": answer})
    if needs_mlx_lm:
        _require(python, answer)
    return TrainerDefaults(
        config_defaults=answer["config_defaults"],
        versions=answer["versions"],
        python=str(python),
        packages=frozenset(answer["packages"]),
        schedules=tuple(answer["schedules"]),
        backends=tuple(answer["backends"]),
    )


def _cache_file(python: Path, cache_dir: Path) -> Path:
    """Name the answer by the path and what it leads to: two venvs share one real interpreter, and one link may move."""
    identity = f"{python}\0{os.path.realpath(python)}"
    return cache_dir / f"probe-{hashlib.sha256(identity.encode()).hexdigest()[:16]}.json"


def _stamp(path: str) -> list[int]:
    """Return what changes when a file or the entries of a folder change; empty when it is not there."""
    try:
        facts = os.stat(path)  # noqa: PTH116 - called for every folder of sys.path at each submit
    except OSError:
        return []
    return [facts.st_mtime_ns, facts.st_size if os.path.isfile(path) else 0, facts.st_ino]  # noqa: PTH113 - as above


def _cached(place: Path) -> dict[str, Any] | None:
    kept = read_json(place)
    if kept is None or kept.get("v") != _VERSION or not isinstance(kept.get("answer"), dict):
        return None
    stamps = kept.get("stamps")
    if not isinstance(stamps, dict) or any(_stamp(path) != stamp for path, stamp in stamps.items()):
        return None
    return kept["answer"]  # type: ignore[no-any-return]  # read_json checked the outer object only


def _keep(place: Path, record: dict[str, Any]) -> None:
    try:
        place.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_json(place, record)
    except OSError:
        return  # only a cache: a full disk must not refuse a job here


def _ask(python: Path, timeout_s: float) -> dict[str, Any]:
    environment = {name: os.environ[name] for name in _PASSED if name in os.environ}
    try:
        done = subprocess.run(
            [str(python), "-E", "-B", "-c", _SCRIPT],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=timeout_s,
            check=False,
            cwd="/",
            env=environment,
        )
    except subprocess.TimeoutExpired as error:
        raise ProbeError(
            f"{python} did not answer within {timeout_s:g} s",
            hint="is it on a volume that hangs, or no Python interpreter? Try it by hand: " + f"{python} --version",
        ) from error
    except OSError as error:
        raise ProbeError(_cannot_run(python, error), hint=_ANOTHER) from error
    lines = done.stdout.decode("utf-8", errors="replace").strip().splitlines()
    answer = _parsed(lines[-1] if lines else "")
    if done.returncode != 0 or answer is None:
        said = done.stderr.decode("utf-8", errors="replace").strip().splitlines()
        last = said[-1][:300] if said else "it said nothing"
        raise ProbeError(
            f"{python} cannot be used as a Python interpreter (exit status {done.returncode}): {last}",
            hint=f"try it by hand: {python} --version",
        )
    return answer


def _parsed(line: str) -> dict[str, Any] | None:
    try:
        answer = json.loads(line)
    except ValueError:
        return None
    return answer if isinstance(answer, dict) and "config_defaults" in answer else None


def _cannot_run(python: Path, error: OSError) -> str:
    match error.errno:
        case errno.ENOENT if python.is_symlink():
            return f"{python} is a link to {os.path.realpath(python)}, which does not exist: was that Python removed?"
        case errno.ENOENT:
            return f"there is no interpreter at {python}, or the one that its first line names is missing"
        case errno.EACCES if os.path.isdir(python):  # noqa: PTH112 - Path.is_dir raises where a parent is closed
            return f"{python} is a folder, not an interpreter"
        case errno.EACCES:
            return f"{python} may not be executed by this user"
        case errno.ENOEXEC:
            return f"{python} is no program for this machine"
    return f"{python} cannot be started: {error.strerror}"


def _require(python: Path, answer: dict[str, Any]) -> None:
    missing = [name for name in ("mlx", "mlx_lm", "numpy") if not answer["found"].get(name)]
    if missing:
        names = ", ".join(name.replace("_", "-") for name in missing)
        raise ProbeError(
            f"{python} (Python {answer['python']}) has no {names}",
            hint=f"install it there: {python} -m pip install 'mlx-lm>=0.30'{_backend_hint()}",
        )
    if problem := answer["errors"].get("mlx_lm"):
        raise ProbeError(problem, hint=f"install it again: {python} -m pip install --force-reinstall mlx-lm")


def _backend_hint() -> str:
    return " 'mlx[cpu]' (with an NVIDIA GPU: 'mlx[cuda13]')" if os.uname().sysname == "Linux" else ""
