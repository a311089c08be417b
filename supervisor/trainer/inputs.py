"""The frozen inputs of a run: which model, which data, which versions it began with.

Resume is exact only when all of them are unchanged, so the first load writes them down and each later one compares
before anything heavy is loaded. Standard library only.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stoker.recovery.checkpoint.manifest import sha256_of
from stoker.recovery.checkpoint.reference import model_fingerprint
from stoker.supervisor.failpoints import hit
from stoker.supervisor.trainer.durable import replace_atomically
from stoker.supervisor.trainer.outcomes import Fault

_SPLITS = ("train", "valid", "test")
# What makes tokens out of text, and code that a model brings along: what mlx-lm takes from a model's folder beside the
# weights and config.json.
_FILES = ("*token*.json", "*.model", "*.tiktoken", "vocab.*", "merges.txt", "chat_template*", "*.jinja", "*.py")


@dataclass(frozen=True, slots=True)
class Inputs:
    """What training depends on beside the config."""

    model: str  # the folder that is loaded; a hub id resolved to its snapshot
    fingerprint: str
    files: Mapping[str, str]  # file name -> sha256: tokenizer, chat template
    data: Mapping[str, str]  # file name -> sha256; empty for data from the hub
    versions: Mapping[str, str]

    def differences(self, now: "Inputs") -> list[str]:
        """What has changed, each with both values."""
        found = []
        if self.fingerprint != now.fingerprint:
            found.append(
                f"model {now.model}: fingerprint {self.fingerprint[:12]} at the first load, {now.fingerprint[:12]} now"
            )
        found += _changed("model file", self.files, now.files, shorten=12)
        found += _changed("data", self.data, now.data, shorten=12)
        found += _changed("version of", self.versions, now.versions, shorten=None)
        return found


def _changed(kind: str, before: Mapping[str, str], now: Mapping[str, str], *, shorten: int | None) -> list[str]:
    names = sorted(before.keys() | now.keys())
    return [
        f"{kind} {name}: {before.get(name, 'absent')[:shorten]} at the first load, {now.get(name, 'absent')[:shorten]} now"
        for name in names
        if before.get(name) != now.get(name)
    ]


def file_hashes(folder: Path) -> dict[str, str]:
    """sha256 of each small file of a model that decides which tokens the data becomes, and of its own code."""
    files = {path for pattern in _FILES for path in folder.glob(pattern) if path.is_file()}
    return {path.name: sha256_of(path) for path in sorted(files)}


def data_hashes(data: str) -> dict[str, str]:
    """sha256 of each split in a local data folder; nothing for a data set of the hub, which mlx-lm loads by name."""
    folder = Path(data)
    files = [folder / f"{split}.jsonl" for split in _SPLITS]
    return {path.name: sha256_of(path) for path in files if path.is_file()}


@dataclass(frozen=True, slots=True)
class Agreement:
    """The inputs in force, and all differences to those of the first load that were accepted since."""

    inputs: Inputs
    accepted: tuple[str, ...]


def agree(
    path: Path,
    model: str,
    data: str,
    versions: Mapping[str, str],
    resolve: Callable[[str], Path],
    *,
    accept_changed: bool,
) -> Agreement:
    """Freeze the inputs at the first load; later, hold them against the frozen ones.

    Args:
        path: of inputs.json.
        model: as the config names it, a folder or a hub id.
        data: as the config names it.
        versions: at work now.
        resolve: gives the local folder of `model`, downloading it if need be.
        accept_changed: whether the person has accepted that they differ; then the new ones are frozen.
    """
    frozen = json.loads(path.read_bytes()) if path.exists() else None
    folder = _model_folder(frozen, model, resolve, accept_changed)
    now = Inputs(str(folder), model_fingerprint(folder), file_hashes(folder), data_hashes(data), dict(versions))
    if frozen is None:
        hit("trainer.inputs.before")
        _freeze(path, model, data, now, history=[])
        return Agreement(now, ())
    differences = _frozen_inputs(frozen, now).differences(now)
    if differences and not accept_changed:
        raise Fault("checkpoint_mismatch", f"inputs changed: {'; '.join(differences)}")
    history = [*frozen["accepted"], *([differences] if differences else [])]
    if differences or "files" not in frozen:
        _freeze(path, model, data, now, history=history)
    return Agreement(now, tuple(difference for accepted in history for difference in accepted))


def _frozen_inputs(frozen: Mapping[str, Any], now: Inputs) -> Inputs:
    """The inputs of the first load. What an older Stoker did not write down cannot be compared: it counts as unchanged."""
    return Inputs(
        frozen["model"],
        frozen["fingerprint"],
        frozen.get("files", now.files),
        frozen["data"],
        {**now.versions, **frozen["versions"]},
    )


def _model_folder(frozen: Any, model: str, resolve: Callable[[str], Path], accept_changed: bool) -> Path:
    if frozen is not None and (Path(frozen["model"]).exists() or not accept_changed):
        folder = Path(frozen["model"])
        if not folder.exists():
            raise FileNotFoundError(
                f"the model folder this run began with is gone: {folder}; mount or restore it, then resume"
            )
        return folder
    return resolve(model).resolve()


def _freeze(path: Path, model: str, data: str, inputs: Inputs, *, history: list[list[str]]) -> None:
    document = {
        "v": 1,
        "model": inputs.model,
        "requested": {"model": model, "data": data},
        "fingerprint": inputs.fingerprint,
        "files": inputs.files,
        "data": inputs.data,
        "versions": inputs.versions,
        "accepted": history,
    }
    replace_atomically(path, (json.dumps(document, indent=1) + "\n").encode())
