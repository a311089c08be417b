"""Real mlx-lm training of a tiny model under real daemons, and the stock command it is held against."""

import contextlib
import hashlib
import json
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import yaml
from harness_daemon import Bench, alive, bench_in, end
from harness_machine import verdicts
from harness_trainer import WARM, environment

from stoker.recovery.checkpoint.choose import candidates
from stoker.supervisor.child import find
from stoker.supervisor.demo.tiny import Tiny
from stoker.supervisor.ending import read_heartbeat
from stoker.supervisor.exactness import keep_verdict
from stoker.supervisor.files import read_lines
from stoker.supervisor.paths import AttemptPaths, RunPaths
from stoker.supervisor.store.read import Reader

PATIENCE = 240.0  # seconds for a few attempts on a slow, shared machine
SLOW = "trainer.iteration.end:delay=0.05"  # so that something can happen between two given iterations

BASE: dict[str, Any] = {
    "seed": 3,
    "iters": 30,
    "batch_size": 4,
    "grad_accumulation_steps": 2,
    "learning_rate": 1e-3,
    "max_seq_length": 64,
    "steps_per_report": 5,
    "steps_per_eval": 8,
    "val_batches": 2,
    "save_every": 10,
}
FULL: dict[str, Any] = {"fine_tune_type": "full", "num_layers": -1}
LORA: dict[str, Any] = {
    "fine_tune_type": "lora",
    "num_layers": 4,
    "lora_parameters": {"rank": 8, "dropout": 0.1, "scale": 20.0},
}


class Works(Bench):
    """A bench whose trainers are real; they start with a copy of the warm kernel cache (a kill may tear it)."""

    def __init__(self, folder: Path, **settings: Any) -> None:
        super().__init__(folder, **settings)
        WARM.mkdir(parents=True, exist_ok=True)
        shutil.copytree(WARM, self.home.cache / "jit-1", dirs_exist_ok=True, ignore=shutil.ignore_patterns("cc*"))
        for verdict in verdicts():
            keep_verdict(self.home.exactness, verdict)

    def wait(
        self,
        condition: Callable[[], Any],
        what: str,
        details: Callable[[], str] = lambda: "",
        patience: float = PATIENCE,
    ) -> None:
        super().wait(condition, what, details, patience)

    def train(self, name: str, tiny: Tiny, *keys: Mapping[str, Any], **stoker: Any) -> str:
        """Submit a job; return its run_id."""
        job: dict[str, Any] = {"model": str(tiny.model), "data": str(tiny.data), **BASE}
        for more in keys:
            job |= more
        job["stoker"] = {"name": name, **stoker}
        done = self.stoker("submit", self.write(f"{name}.yaml", yaml.safe_dump(job, sort_keys=False).encode()))
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    # --- looking at a run

    def paths(self, run_id: str) -> RunPaths:
        return self.home.run(run_id)

    def decisions(self, run_id: str) -> list[dict[str, Any]]:
        with Reader(self.home) as reader:
            return reader.decisions(run_id)

    def rows(self, run_id: str, n: int, kind: str) -> list[dict[str, Any]]:
        """Return what the trainer of an attempt reported of a kind."""
        return [row for row in read_lines(self.paths(run_id).attempt(n).metrics) if row["kind"] == kind]

    def checkpoints(self, run_id: str) -> list[Path]:
        """Return the committed checkpoints, newest first."""
        return [found.path for found in candidates(self.paths(run_id).checkpoints)]

    def ended(self, run_id: str, state: str = "completed") -> dict[str, Any]:
        """Wait until a run has ended, or is held for a person, in the state that is expected; return `show`."""
        shown = self.wait_state(run_id, "completed", "failed", "cancelled", "held")
        assert shown["state"] == state, shown["reason"] + self.story(shown)
        return shown

    def story(self, shown: Mapping[str, Any]) -> str:
        lines = [
            f"{a['n']}: {a['from_iteration']}-{a['to_iteration']} {a['cause']}: {a['plan']}" for a in shown["attempts"]
        ]
        newest = self.paths(shown["run_id"]).attempt(max(1, len(shown["attempts"])))
        log = newest.log.read_text(errors="replace")[-3000:] if newest.log.exists() else ""
        return "\n" + "\n".join([*lines, log])

    # --- disturbing it

    def reach(self, run_id: str, n: int, seen: Callable[[dict[str, Any]], bool], what: str) -> AttemptPaths:
        """Wait until the heartbeat of an attempt says something."""
        attempt = self.paths(run_id).attempt(n)

        def ready() -> bool:
            assert not attempt.exit.exists(), f"attempt {n} ended first: {self.story(self.show(run_id))}"
            return seen(read_heartbeat(attempt.heartbeat))

        self.wait(ready, f"attempt {n} of {run_id} {what}", lambda: str(read_heartbeat(attempt.heartbeat)))
        return attempt

    def reach_iteration(self, run_id: str, n: int, iteration: int) -> AttemptPaths:
        """Wait until an attempt has completed so many iterations and trains on."""
        return self.reach(
            run_id,
            n,
            lambda beat: beat.get("phase") == "train" and beat["iteration"] >= iteration,
            f"reaches iteration {iteration}",
        )

    def kill_trainer(self, attempt: AttemptPaths) -> None:
        """SIGKILL to the trainer from outside, by the pid in run.json."""
        processes = find(attempt)
        assert processes is not None
        assert processes.trainer_alive
        end(processes.trainer_pid)

    def kill_everything(self, attempt: AttemptPaths) -> None:
        """SIGKILL to daemon, shim and trainer, as when the power goes; returns when all are dead."""
        processes = find(attempt)
        assert processes is not None
        self.daemon.kill()
        end(processes.shim_pid)
        end(processes.trainer_pid, signal.SIGKILL)
        self.daemon.wait()
        self.wait(lambda: not alive(processes.shim_pid) and not alive(processes.trainer_pid), "all are dead")


def works_in(folder: Path, **settings: Any) -> contextlib.AbstractContextManager[Works]:
    """A home with real daemons and real trainers; likewise."""
    return bench_in(folder, Works, **settings)


def stock(config: Path, folder: Path, *more: str, python: str = sys.executable) -> Path:
    """Run the stock command on a configuration, undisturbed; return the folder of its adapters."""
    folder.mkdir(parents=True, exist_ok=True)
    adapter = folder / "adapter"
    argv = [python, "-m", "mlx_lm", "lora", "-c", str(config), "--adapter-path", str(adapter), *more]
    done = subprocess.run(
        argv, env=environment(), capture_output=True, text=True, check=False, timeout=PATIENCE, cwd=folder
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    return adapter


def warm_up(folder: Path, name: str, tiny: Tiny, *keys: Mapping[str, Any]) -> None:
    """Have the kernels of a kind of training compiled into the shared cache, once for each version of mlx."""
    done = WARM / f"{name}-{version('mlx')}"
    if done.exists():
        return
    job: dict[str, Any] = {"model": str(tiny.model), "data": str(tiny.data), **BASE}
    for more in keys:
        job |= more
    folder.mkdir(parents=True)
    config = folder / "config.yaml"
    config.write_text(yaml.safe_dump({**job, "train": True}))
    stock(config, folder)
    done.touch()


class Stock:
    """The stock command's adapters, trained once for each configuration."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._known: dict[str, Path] = {}

    def adapter(self, config: Path) -> Path:
        """Return the folder of adapters that the stock command makes of attempts/1/config.yaml."""
        values = yaml.safe_load(config.read_bytes())
        values.pop("adapter_path")
        key = json.dumps(values, sort_keys=True)
        if key not in self._known:
            self._known[key] = stock(config, self._folder / str(len(self._known)))
        return self._known[key]

    def sha256(self, config: Path, name: str = "adapters.safetensors") -> str:
        return sha256_of_file(self.adapter(config) / name)


def sha256_of_file(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def causes(shown: Mapping[str, Any]) -> list[str]:
    """Return the cause of each attempt's end."""
    return [attempt["cause"] for attempt in shown["attempts"]]
