"""The environment of trainers: a closed list from the daemon's own, then the settings', then the job's (DESIGN 7)."""

import re
from collections.abc import Mapping
from pathlib import Path

_PASSED = re.compile(
    r"HOME|USER|LOGNAME|PATH|LANG|LC_\w+|TZ|SSL_\w+|\w+_proxy|\w+_PROXY|HF_\w+|HUGGINGFACE_\w+|MLX_\w+"
    r"|LD_LIBRARY_PATH|CUDA_\w+|VIRTUAL_ENV|STOKER_FAILPOINTS"
)


def trainer_environment(
    daemon: Mapping[str, str], settings: Mapping[str, str], job: Mapping[str, str], *, temp: Path, offline: bool
) -> dict[str, str]:
    """Return a trainer's environment.

    Args:
        daemon: the daemon's own environment.
        settings: `env` of stoker.yaml.
        job: `stoker: {env: ...}` of the job.
        temp: TMPDIR, where mlx's CPU backend keeps its compiled kernels.
        offline: the inputs are frozen already: the hub must not be asked for newer ones.
    """
    environment = {key: value for key, value in daemon.items() if _PASSED.fullmatch(key)}
    environment |= {"PYTHONUNBUFFERED": "1", "PYTHONFAULTHANDLER": "1", "PYTHONUTF8": "1", "TMPDIR": str(temp)}
    if offline:
        environment["HF_HUB_OFFLINE"] = "1"
    environment |= settings
    environment |= job
    return environment
