"""Which versions are at work, and whether mlx-lm's training code is one that was reviewed.

The training loop here stands in for mlx-lm's `train`. It is exact only as long as it does what the original does, so
the sources of the functions it replaces or relies on are held against those that were read and tested: reviewed.json
maps mlx-lm versions to hashes. To add a version: unpack its wheel, read the difference of its `train` to the last
reviewed one, adapt loop.py, and add `source_hash(Path("unpacked/mlx_lm"))` to the file.
"""

import ast
import hashlib
import importlib.metadata
import json
import platform
import tomllib
from pathlib import Path

_FUNCTIONS = {
    "tuner/trainer.py": ("train", "iterate_batches", "evaluate", "default_loss"),
    "lora.py": ("train_model",),
}
_REVIEWED = Path(__file__).with_name("reviewed.json")


def source_hash(package: Path) -> str:
    """sha256 over the sources of the functions that training rests on, from an mlx_lm folder; nothing is imported."""
    digest = hashlib.sha256()
    for file, names in _FUNCTIONS.items():
        text = (package / file).read_text(encoding="utf-8")
        found = {node.name: node for node in ast.parse(text).body if isinstance(node, ast.FunctionDef)}
        for name in names:
            source = ast.get_source_segment(text, found[name]) if name in found else None
            digest.update(f"{name}\n{source}\n".encode())
    return digest.hexdigest()


def reviewed() -> dict[str, str]:
    """Hashes by mlx-lm version that were read and tested."""
    hashes: dict[str, str] = json.loads(_REVIEWED.read_text(encoding="utf-8"))
    return hashes


def is_proved(package: Path) -> bool:
    """Whether this mlx-lm trains with code that was reviewed."""
    return source_hash(package) in reviewed().values()


def versions() -> dict[str, str]:
    """Versions that decide whether two attempts compute the same; the last two make tokens out of text."""
    names = ("mlx", "mlx-lm", "numpy", "transformers", "tokenizers")
    found = {name.replace("-", "_"): importlib.metadata.version(name) for name in names}
    return {"python": platform.python_version(), "stoker": stoker_version(), **found}


def stoker_version() -> str:
    """From the files beside us: a foreign interpreter has no metadata of a `stoker` distribution."""
    root = Path(__file__).resolve().parents[2]
    project = root / "pyproject.toml"
    if project.is_file():
        return str(tomllib.loads(project.read_text(encoding="utf-8"))["project"]["version"])
    for folder in sorted(root.parent.glob("stoker-*.dist-info")):
        return folder.name.removeprefix("stoker-").removesuffix(".dist-info")
    return "unknown"
