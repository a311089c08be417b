"""Runs the trainer process as the daemon does, without the daemon: writes an attempt, launches it, kills it, goes on
from the newest checkpoint.
"""

import contextlib
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from harness_machine import verdicts

from stoker.recovery.checkpoint.manifest import MANIFEST, parse_name, read, sha256_of, size_problems
from stoker.recovery.checkpoint.verify import verify
from stoker.supervisor.demo.tiny import Tiny, make_tiny

REPOSITORY = Path(__file__).resolve().parents[1]
MAIN = REPOSITORY / "supervisor" / "trainer" / "main.py"
CACHE = Path(os.environ.get("STOKER_TEST_CACHE", REPOSITORY / ".cache"))
WARM = (
    CACHE / "jit"
)  # compiled kernels, shared by all tests and by stock mlx-lm; never used by an attempt that dies while compiling
PATIENCE = 240.0  # seconds for one attempt on a slow, cold, shared machine

BASE: dict[str, Any] = {
    "train": True,
    "seed": 3,
    "iters": 24,
    "batch_size": 4,
    "grad_accumulation_steps": 2,
    "steps_per_report": 5,
    "steps_per_eval": 7,
    "val_batches": 2,
    "save_every": 10,
    "max_seq_length": 256,
    "learning_rate": 1e-3,
}
LORA: dict[str, Any] = {"fine_tune_type": "lora", "num_layers": 4}
KINDS: dict[str, dict[str, Any]] = {
    "full": {
        "fine_tune_type": "full",
        "num_layers": -1,
        "lr_schedule": {"name": "cosine_decay", "warmup": 4, "arguments": [1e-3, 30, 1e-5]},
    },
    "lora": LORA | {"optimizer": "adamw", "lora_parameters": {"rank": 8, "dropout": 0.0, "scale": 20.0}},
    "dropout": LORA | {"lora_parameters": {"rank": 8, "dropout": 0.1, "scale": 20.0}},
}
EXAMPLES = 40  # ten batches an epoch: a short run passes several epochs


def tiny_for_tests(folder: Path, **options: Any) -> Tiny:
    """The model and data of these tests."""
    return make_tiny(folder, examples=EXAMPLES, **options)


def environment(jit: Path = WARM, **more: str) -> dict[str, str]:
    """What the daemon gives a trainer, as far as it matters here."""
    jit.mkdir(parents=True, exist_ok=True)
    own = {"PYTHONUNBUFFERED": "1", "PYTHONFAULTHANDLER": "1", "HF_HUB_OFFLINE": "1", "TMPDIR": str(jit)}
    return {**os.environ, **own, **more}


def stock(tiny: Tiny, config: Mapping[str, Any], folder: Path, python: str = sys.executable) -> Path:
    """Train with the stock command; the folder of its adapters."""
    folder.mkdir(parents=True, exist_ok=True)
    whole = {
        **BASE,
        **config,
        "model": str(tiny.model),
        "data": str(tiny.data),
        "adapter_path": str(folder / "adapter"),
    }
    (folder / "config.yaml").write_text(yaml.safe_dump(whole))
    command = [python, "-m", "mlx_lm", "lora", "-c", str(folder / "config.yaml")]
    done = subprocess.run(
        command, env=environment(), capture_output=True, text=True, check=False, timeout=PATIENCE, cwd=folder
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    return folder / "adapter"


@dataclass
class Attempt:
    """A trainer process at work, or what is left of it."""

    folder: Path
    process: subprocess.Popen[bytes]

    @property
    def log(self) -> str:
        return (self.folder / "train.log").read_text(errors="replace")

    @property
    def rows(self) -> list[dict[str, Any]]:
        path = self.folder / "metrics.jsonl"
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []

    def of_kind(self, kind: str) -> list[dict[str, Any]]:
        return [row for row in self.rows if row["kind"] == kind]

    def heartbeat(self) -> dict[str, Any]:
        try:
            return dict(json.loads((self.folder / "heartbeat").read_bytes()))
        except (OSError, ValueError):
            return {"phase": "start", "iteration": 0}

    def wait(self, timeout: float = PATIENCE) -> int:
        """The exit status, once its compilers have ended too: a trainer killed beside one leaves it at work on a kernel."""
        try:
            code = self.process.wait(timeout)
        except subprocess.TimeoutExpired:
            self.process.kill()
            raise AssertionError(f"still at {self.heartbeat()} after {timeout} s\n{self.log[-3000:]}") from None
        with contextlib.suppress(ProcessLookupError):
            while True:
                os.killpg(self.process.pid, 0)
                time.sleep(0.01)
        return code

    def wait_until(self, seen: Callable[[dict[str, Any]], bool], timeout: float = PATIENCE) -> bool:
        """Whether the heartbeat came to say it before the process ended."""
        end = time.monotonic() + timeout
        while self.process.poll() is None and time.monotonic() < end:
            if seen(self.heartbeat()):
                return True
            time.sleep(0.003)
        return False

    def send(self, number: signal.Signals) -> None:
        if self.process.poll() is None:
            self.process.send_signal(number)


@dataclass
class TrainerRun:
    """A run's folder with its attempts."""

    folder: Path
    tiny: Tiny
    config: Mapping[str, Any]
    every: Mapping[str, Any] = field(default_factory=lambda: {"iterations": 4, "seconds": None})
    keep: int = 3
    python: str = sys.executable
    main: Path = MAIN
    env: Mapping[str, str] = field(default_factory=dict)
    attempts: int = 0

    @property
    def adapter(self) -> Path:
        return self.folder / "adapter"

    @property
    def checkpoints(self) -> list[Path]:
        """Committed ones, newest first."""
        folder = self.folder / "checkpoints"
        found = [path for path in folder.iterdir() if (path / MANIFEST).exists()] if folder.exists() else []
        return sorted(found, key=lambda path: parse_name(path.name) or (0, 0), reverse=True)

    def launch(self, *, failpoints: str = "", jit: Path = WARM, mode: str = "exact", **wants: Any) -> Attempt:
        """Start the next attempt from the newest checkpoint, or from iteration 0. `wants` goes into launch.json."""
        self.attempts += 1
        attempt = self.folder / "attempts" / str(self.attempts)
        attempt.mkdir(parents=True)
        paths = {"model": str(self.tiny.model), "data": str(self.tiny.data), "adapter_path": str(self.adapter)}
        (attempt / "config.yaml").write_text(yaml.safe_dump({**BASE, **self.config, **paths}))
        newest = next(iter(self.checkpoints), None)
        command = [self.python, str(self.main), str(attempt)]
        trainer = {
            "run_dir": str(self.folder),
            "checkpoints": str(self.folder / "checkpoints"),
            "staging": str(self.folder / "staging"),
            "inputs": str(self.folder / "inputs.json"),
            "resume": {"checkpoint": str(newest), "mode": mode} if newest else None,
            "every": self.every,
            "keep": self.keep,
            "micro_batch": None,
            "learning_rate": [],
            "exactness": verdicts(self.python),
            "accept_changed": False,
            "test": False,
            "drill": [],
            **wants,
        }
        launch = {"v": 1, "run_id": "tiny_20261122_1200", "attempt": self.attempts, "argv": command, "trainer": trainer}
        (attempt / "launch.json").write_text(json.dumps({**launch, "cwd": str(attempt), "grace_s": 10}))
        with (attempt / "train.log").open("wb") as log:
            process = subprocess.Popen(
                command,
                env=environment(jit, STOKER_FAILPOINTS=failpoints, **self.env),
                cwd=attempt,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # so that a killed trainer's compilers can be ended with it
            )
        return Attempt(attempt, process)

    def finish(self, **wants: Any) -> Attempt:
        """One more attempt that is left in peace."""
        attempt = self.launch(**wants)
        assert attempt.wait() == 0, attempt.log[-4000:]
        return attempt

    def check_whole(self) -> None:
        """Everything that has a final name is complete: committed checkpoints by size and hash, adapters by their
        header.
        """
        for checkpoint in self.checkpoints:
            manifest = read(checkpoint)
            assert manifest.name == checkpoint.name
            assert not size_problems(checkpoint, manifest)
            for name, facts in manifest.files.items():
                assert sha256_of(checkpoint / name) == facts.sha256, f"{checkpoint.name}/{name}"
            assert not verify(checkpoint).problems
        for adapter in self.adapter.glob("*adapters.safetensors"):
            data = adapter.read_bytes()
            length = int.from_bytes(data[:8], "little")
            entries = json.loads(data[8 : 8 + length])
            ends = [row["data_offsets"][1] for name, row in entries.items() if name != "__metadata__"]
            assert len(data) == 8 + length + max(ends), adapter.name


def adapters_of(folder: Path) -> dict[str, str]:
    """sha256 of the final and of each numbered adapter."""
    return {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.glob("*adapters.safetensors"))
    }


@contextlib.contextmanager
def cold_cache(folder: Path) -> Iterator[Path]:
    """An empty kernel cache for one attempt that is going to die while it compiles: what it leaves may be torn."""
    cold = folder / "jit-cold"
    cold.mkdir(parents=True, exist_ok=True)
    try:
        yield cold
    finally:
        shutil.rmtree(cold, ignore_errors=True)


def end_group(attempt: Attempt) -> None:
    """SIGKILL to the trainer, and to the compilers it has started so that they do not write on."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(attempt.process.pid, signal.SIGKILL)
    attempt.process.wait(PATIENCE)
