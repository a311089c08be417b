"""Where every file is: the only module that knows file names (DESIGN section 4)."""

import os
import sys
from dataclasses import dataclass
from pathlib import Path


def default_home() -> Path:
    """Return `$STOKER_HOME`, else the platform's place for application state."""
    if named := os.environ.get("STOKER_HOME"):
        return Path(named).expanduser().absolute()
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Application Support" / "stoker"
    state = os.environ.get("XDG_STATE_HOME") or str(Path.home() / ".local" / "state")
    return Path(state) / "stoker"


@dataclass(frozen=True, slots=True)
class AttemptPaths:
    """The files of one attempt: `runs/RUN_ID/attempts/N`."""

    dir: Path

    @property
    def config(self) -> Path:
        """The stock mlx-lm configuration of this attempt."""
        return self.dir / "config.yaml"

    @property
    def launch(self) -> Path:
        """What the daemon tells shim and trainer: argv, checkpoint to resume from, cadence, adjustments."""
        return self.dir / "launch.json"

    @property
    def run(self) -> Path:
        """What the shim started: pids, start tokens, boot id."""
        return self.dir / "run.json"

    @property
    def log(self) -> Path:
        """The trainer's stdout and stderr."""
        return self.dir / "train.log"

    @property
    def metrics(self) -> Path:
        """One JSON object per report of the trainer."""
        return self.dir / "metrics.jsonl"

    @property
    def heartbeat(self) -> Path:
        """Phase and last completed iteration, overwritten in place at each iteration."""
        return self.dir / "heartbeat"

    @property
    def exit(self) -> Path:
        """The trainer's exit status, written by the shim when the trainer's session is empty."""
        return self.dir / "exit.json"

    @property
    def shim_log(self) -> Path:
        """What the shim itself had to say; empty when all went well."""
        return self.dir / "shim.log"


@dataclass(frozen=True, slots=True)
class RunPaths:
    """The files of one run: `runs/RUN_ID`."""

    dir: Path

    @property
    def submitted(self) -> Path:
        """The job file exactly as it was dropped."""
        return self.dir / "submitted.yaml"

    @property
    def job(self) -> Path:
        """The frozen copy that the run lives by."""
        return self.dir / "job.yaml"

    @property
    def lease(self) -> Path:
        """The flock that daemon, shim and trainer hold while a trainer may be alive."""
        return self.dir / "lease"

    @property
    def events(self) -> Path:
        """Mirror of the run's events, for rebuilding a lost database."""
        return self.dir / "events.jsonl"

    @property
    def inputs(self) -> Path:
        """Fingerprints of model, data and versions, frozen at the first load."""
        return self.dir / "inputs.json"

    @property
    def checkpoints(self) -> Path:
        """Committed checkpoints."""
        return self.dir / "checkpoints"

    @property
    def staging(self) -> Path:
        """Checkpoints being written."""
        return self.dir / "staging"

    @property
    def quarantine(self) -> Path:
        """Checkpoints that failed verification; never deleted silently."""
        return self.dir / "quarantine"

    @property
    def superseded(self) -> Path:
        """Checkpoints and numbered files that a rewind left behind, by attempt."""
        return self.dir / "superseded"

    @property
    def adapter(self) -> Path:
        """The final adapter when the job names no adapter_path."""
        return self.dir / "adapter"

    @property
    def attempts(self) -> Path:
        """The attempts' folders."""
        return self.dir / "attempts"

    def attempt(self, n: int) -> AttemptPaths:
        """Return the paths of attempt `n` (1, 2, 3 ...)."""
        return AttemptPaths(self.attempts / str(n))


@dataclass(frozen=True, slots=True)
class Home:
    """Stoker's home folder and everything in it."""

    dir: Path

    @property
    def settings(self) -> Path:
        """Settings of the daemon, written by a person."""
        return self.dir / "stoker.yaml"

    @property
    def inbox(self) -> Path:
        """Drop job files here."""
        return self.dir / "inbox"

    @property
    def database(self) -> Path:
        """The SQLite store."""
        return self.dir / "stoker.db"

    @property
    def lock(self) -> Path:
        """Held by the one daemon of this home."""
        return self.dir / "daemon.lock"

    @property
    def wake(self) -> Path:
        """Touched by the command line after it put a row into `commands`."""
        return self.dir / "wake"

    @property
    def runs(self) -> Path:
        """The runs' folders."""
        return self.dir / "runs"

    @property
    def cache(self) -> Path:
        """Compiled kernels and probed defaults; may be deleted at any time."""
        return self.dir / "cache"

    @property
    def records(self) -> Path:
        """One line per ending, for people's own experiment logs."""
        return self.dir / "training_runs.jsonl"

    @property
    def exactness(self) -> Path:
        """What `stoker doctor --exact` found on this machine."""
        return self.dir / "exactness.json"

    @property
    def log(self) -> Path:
        """The daemon's own log."""
        return self.dir / "daemon.log"

    def run(self, run_id: str) -> RunPaths:
        """Return the paths of the run `run_id`."""
        return RunPaths(self.runs / run_id)

    def create(self) -> None:
        """Make the folders, readable by their owner only."""
        for folder in (self.dir, self.inbox, self.runs, self.cache):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.dir.chmod(0o700)
