"""The files in adapter_path: what mlx-lm would write there, byte for byte, but each of them whole at any moment."""

import errno
import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import mlx.core as mx

from stoker.supervisor.failpoints import hit
from stoker.supervisor.host.disk import free_bytes
from stoker.supervisor.trainer.checkpoint import ADVICE, disk_full
from stoker.supervisor.trainer.durable import sync_file, sync_folder
from stoker.supervisor.trainer.outcomes import Fault

_TEMPORARY = ".stoker-{}.safetensors"  # mlx insists on the ending
_MLX_WRITE_FAILED = "[write] Unable to write"  # mlx's text for a full disk: it drops the reason


def numbered(adapter: Path, iteration: int) -> Path:
    """The name mlx-lm gives the copy of an iteration."""
    return adapter.parent / f"{iteration:07d}_adapters.safetensors"


def save(weights: Mapping[str, mx.array], *targets: Path, min_free: int) -> None:
    """Write the weights once and give the file to each of the names, the first one first, by rename.

    Nothing is begun that would leave less than `min_free` bytes on the volume: a disk filled to the last byte stops
    more than this run.
    """
    folder = targets[0].parent
    needs = len(targets) * sum(array.nbytes for array in weights.values()) + min_free
    if (free := free_bytes(folder)) < needs:
        what = f"{free / 1e9:.2f} GB free at {folder}, saving needs {needs / 1e9:.2f} GB"
        raise Fault("disk_full", f"{what} ({min_free / 1e9:.2f} GB of them stay free)", advice=ADVICE, needs=needs)
    temporary = [folder / _TEMPORARY.format(index) for index in range(len(targets))]
    try:
        hit("adapter.save.before")
        _write(temporary[0], weights)
        for copy in temporary[1:]:
            shutil.copyfile(temporary[0], copy)  # never a hard link: stock mlx-lm truncates these files in place
        hit("adapter.save.fsync")
        for path in temporary:
            sync_file(path)
        for path, target in zip(temporary, targets, strict=True):
            hit("adapter.rename.before")
            path.replace(target)
            hit("adapter.rename.after")
        sync_folder(folder)
    except OSError as error:
        for path in temporary:
            path.unlink(missing_ok=True)
        if error.errno in {errno.ENOSPC, errno.EDQUOT}:
            raise disk_full(f"cannot write {targets[0]}", error, needs=needs) from error
        raise


def _write(path: Path, weights: Mapping[str, mx.array]) -> None:
    try:
        mx.save_safetensors(str(path), dict(weights))
    except RuntimeError as error:
        if _MLX_WRITE_FAILED not in str(error):
            raise
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path)) from error


def save_config(config: Mapping[str, Any], path: Path, write: Any) -> None:
    """mlx-lm's own adapter_config.json (`write` is its save_config), through a temporary file."""
    temporary = path.with_name(".stoker-adapter_config.json")
    try:
        write(dict(config), temporary)
        json.loads(temporary.read_bytes())
        sync_file(temporary)
        temporary.replace(path)
        sync_folder(path.parent)
    except OSError as error:
        if error.errno in {errno.ENOSPC, errno.EDQUOT}:
            raise disk_full(f"cannot write {path}", error) from error
        raise
