"""`stoker doctor --exact`: whether this machine repeats itself."""

import json
import shutil
import sys
import tempfile
import time
from pathlib import Path

from stoker.supervisor.clock import iso
from stoker.supervisor.demo.serving import need_compiler, serving
from stoker.supervisor.demo.tiny import Tiny, make_tiny
from stoker.supervisor.demo.trial import RealTrainings, Trial, perform
from stoker.supervisor.errors import StokerError
from stoker.supervisor.exactness import keep_verdict
from stoker.supervisor.paths import Home
from stoker.supervisor.probe import trainer_defaults

_INTRODUCTION = """\
Does this machine repeat itself? A tiny model is trained in full and with LoRA: by Stoker, whose trainer is killed once
and resumes, and twice by `python -m mlx_lm lora`. A minute or two; the sha256 of the final weights:
"""


def try_exactness(home: Home, python: Path, *, as_json: bool) -> bool:
    """Try it, print what was found, keep the verdict in `home`; whether it is exact.

    Raises:
        StokerError: the interpreter cannot train, or a training failed; nothing is kept then.
    """
    with tempfile.TemporaryDirectory() as cache:
        defaults = trainer_defaults(python, Path(cache))
    gpu = sys.platform == "darwin" or any("cuda" in name for name in defaults.backends)
    if not gpu:
        need_compiler()
    if not as_json:
        print(_INTRODUCTION, flush=True)
    folder = Path(tempfile.mkdtemp(prefix="stoker-exact-"))
    try:
        trial = _try(folder, python, gpu=gpu, silent=as_json)
    except StokerError as error:
        raise StokerError(error.message, hint=f"{error.hint}; all files: {folder}") from error
    verdict = trial.verdict(iso(time.time()))
    home.create()
    keep_verdict(home.exactness, verdict)
    if as_json:
        print(json.dumps(verdict, indent=2))
    else:
        print(f"\n{trial.words}\non {trial.machine}\nkept in {home.exactness}")
    if trial.exact:
        shutil.rmtree(folder, ignore_errors=True)
    elif not as_json:
        print(f"all files: {folder}")
    return trial.exact


def _try(folder: Path, python: Path, *, gpu: bool, silent: bool) -> Trial:
    home = Home(folder / "home")
    home.create()
    tiny = _model(folder, gpu=gpu)
    with serving(home, folder / "daemon.out"):
        trainings = RealTrainings(home, folder, tiny, python)
        return perform(trainings, lambda text: None if silent else print(text, flush=True))


def _model(folder: Path, *, gpu: bool) -> Tiny:
    """For a GPU wide enough for the kernels of real models, in their number format; small where a CPU computes."""
    return make_tiny(folder, hidden=512, heads=8, dtype="bfloat16") if gpu else make_tiny(folder)
