"""Runs real daemons on a home of its own: starts, stops and kills them, drops jobs, waits for states, cleans up.

Jobs are `trainer: command` with the stand-in trainer, whose own journal of starts and ends is the oracle.
"""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any

import psutil
import yaml

from stoker.supervisor.instance import running_pid
from stoker.supervisor.paths import AttemptPaths, Home
from stoker.supervisor.store.read import Reader

STANDIN = Path(__file__).with_name("standin_trainer.py")
STOKER = Path(sys.executable).with_name("stoker")
PATIENCE = 60.0  # seconds; a condition that holds is seen within milliseconds, so this costs only failing tests
_LOOK = 0.02


class Bench:
    """A home, its daemons, and what the stand-in trainers say of themselves."""

    def __init__(self, folder: Path, **settings: Any) -> None:
        self.folder = folder
        self.home = Home(folder / "home")
        self.journal_file = folder / "journal.jsonl"
        self.daemons: list[subprocess.Popen[bytes]] = []
        self.home.create()
        self.configure(**settings)

    def configure(self, **settings: Any) -> None:
        self.home.settings.write_text(yaml.safe_dump({"disk": {"min_free": 0}, **settings}))

    # --- daemons

    def start(self, *words: str, ready: bool = True, failpoints: str = "") -> "subprocess.Popen[bytes]":
        """Start a daemon; with `ready`, wait until it serves."""
        seen = self.count("ready")
        environment = {**os.environ, "STOKER_FAILPOINTS": failpoints}
        with (self.folder / "daemon.err").open("ab") as errors:
            argv = [str(STOKER), "--home", str(self.home.dir), "run", *words]
            daemon = subprocess.Popen(
                argv, stdin=subprocess.DEVNULL, stdout=errors, stderr=errors, env=environment, start_new_session=True
            )
        self.daemons.append(daemon)
        if ready:
            self.wait(lambda: self.count("ready") > seen or daemon.poll() is not None, "the daemon is ready")
            assert daemon.poll() is None, (self.folder / "daemon.err").read_text()
        return daemon

    @property
    def daemon(self) -> "subprocess.Popen[bytes]":
        return self.daemons[-1]

    def kill(self) -> None:
        """SIGKILL to the newest daemon."""
        self.daemon.kill()
        self.daemon.wait()

    def stop(self) -> int:
        """SIGTERM to the newest daemon; return its exit status."""
        self.daemon.terminate()
        return self.daemon.wait(PATIENCE)

    def finished(self, daemon: "subprocess.Popen[bytes] | None" = None) -> int:
        """Wait for the end of a daemon (one with --drain, or a failpoint)."""
        return (daemon or self.daemon).wait(PATIENCE)

    def log(self) -> list[dict[str, Any]]:
        """Return the lines of daemon.log, of the rotated one too."""
        text = self.home.log.read_text(encoding="utf-8") if self.home.log.exists() else ""
        rows = []
        for line in text.splitlines():
            with contextlib.suppress(ValueError):  # torn by a kill
                rows.append(json.loads(line))
        return rows

    def count(self, event: str) -> int:
        return sum(row.get("event") == event for row in self.log())

    def faults(self) -> list[dict[str, Any]]:
        """Return what a daemon should never have had to say."""
        return [row for row in self.log() if row.get("level") in {"error", "critical"} or "exception" in row]

    # --- jobs

    def job(self, *options: Any, top: Mapping[str, Any] | None = None, **stoker: Any) -> bytes:
        """Return a job file whose trainer is the stand-in."""
        command = [sys.executable, "-I", "-S", str(STANDIN), str(self.journal_file), "{run_id}", "{attempt}"]
        keys = {"trainer": "command", "command": [*command, *map(str, options)], **stoker}
        return yaml.safe_dump({**(top or {}), "stoker": keys}, sort_keys=False).encode()

    def drop(self, name: str, data: bytes, folder: Path | None = None) -> Path:
        """Drop a file as a careful person does: written elsewhere, then moved in."""
        target = (folder or self.home.inbox) / name
        temp = target.with_name(f".{name}.tmp")
        temp.write_bytes(data)
        return temp.rename(target)

    def write(self, name: str, data: bytes) -> Path:
        """Return a job file outside the inbox, for `stoker submit`."""
        path = self.folder / name
        path.write_bytes(data)
        return path

    def stoker(self, *words: Any) -> "subprocess.CompletedProcess[str]":
        """Run the installed command."""
        argv = [str(STOKER), "--home", str(self.home.dir), *map(str, words)]
        return subprocess.run(
            argv, capture_output=True, text=True, timeout=PATIENCE, check=False, stdin=subprocess.DEVNULL
        )

    def submit(self, name: str, *options: Any, **stoker: Any) -> str:
        """Submit a job of the stand-in by the command line; return its run_id."""
        done = self.stoker("submit", self.write(f"{name}.yaml", self.job(*options, **stoker)))
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    # --- what became of them

    def runs(self) -> list[dict[str, Any]]:
        """Return all runs, oldest first."""
        with Reader(self.home) as reader:
            return list(reversed(reader.runs()["runs"]))

    def show(self, reference: str) -> dict[str, Any]:
        with Reader(self.home) as reader:
            return reader.show(reader.find(reference))

    def states(self) -> dict[str, str]:
        """Return name -> state (of names used once)."""
        return {run["name"]: run["state"] for run in self.runs()}

    def events(self, reference: str) -> list[str]:
        with Reader(self.home) as reader:
            return [event["kind"] for event in reader.events(reader.find(reference))]

    def wait_state(self, reference: str, *states: str) -> dict[str, Any]:
        """Wait until a run is in one of the states; return everything about it."""
        found: dict[str, Any] = {}

        def there() -> bool:
            if any(reference in {run["name"], run["run_id"]} for run in self.runs()):
                found.update(self.show(reference))
            return found.get("state") in states

        self.wait(there, f"{reference} is {' or '.join(states)}", lambda: f"it is {found.get('state')}")
        return found

    def wait(
        self,
        condition: Callable[[], Any],
        what: str,
        details: Callable[[], str] = lambda: "",
        patience: float = PATIENCE,
    ) -> None:
        """Wait for a condition, not for a time."""
        deadline = time.monotonic() + patience
        while not condition():
            if time.monotonic() > deadline:
                tail = "\n".join(json.dumps(row) for row in self.log()[-30:])
                raise AssertionError(f"waited {patience:.0f} s for: {what}; {details()}\n{tail}")
            time.sleep(_LOOK)

    def attempt(self, reference: str, n: int = 1) -> AttemptPaths:
        return self.home.run(self.show(reference)["run_id"]).attempt(n)

    def rejected(self, name: str, folder: Path | None = None) -> str:
        """Wait for the answer to a file that cannot become a job; return the text."""
        answer = (folder or self.home.inbox) / "rejected" / f"{name}.error.txt"
        self.wait(answer.exists, f"an answer beside {name}")
        self.wait(lambda: os.path.lexists(answer.with_name(name)), f"{name} lies beside its answer")
        return answer.read_text(encoding="utf-8")

    def records(self) -> list[dict[str, Any]]:
        """Return training_runs.jsonl."""
        path = self.home.records
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []

    # --- the oracle

    def journal(self, run_id: str | None = None) -> list[dict[str, Any]]:
        """Return what the stand-in trainers wrote, in order."""
        if not self.journal_file.exists():
            return []
        rows = [json.loads(line) for line in self.journal_file.read_text().splitlines()]
        return [row for row in rows if run_id is None or row["run"] == run_id]

    def noted(self, run_id: str, what: str) -> list[dict[str, Any]]:
        return [row for row in self.journal(run_id) if row["what"] == what]

    def wait_noted(self, run_id: str, what: str, times: int = 1) -> dict[str, Any]:
        """Wait until a trainer of the run wrote such a line; return the newest."""
        self.wait(lambda: len(self.noted(run_id, what)) >= times, f"{run_id} notes {what}")
        return self.noted(run_id, what)[-1]

    def lives(self) -> list["Life"]:
        """Return every trainer that started, with its end."""
        open_: dict[int, Life] = {}
        lives = []
        for row in self.journal():
            if row["what"] == "start":
                open_[row["pid"]] = Life(row)
                lives.append(open_[row["pid"]])
            elif row["what"] == "end":
                open_.pop(row["pid"]).end = row
        return lives

    # --- cleaning up

    def processes(self) -> list[psutil.Process]:
        """Return what belongs to this bench and still runs: daemons, shims, trainers, what these left behind."""
        found = []
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error):
                if process.status() != psutil.STATUS_ZOMBIE and self._ours(process):
                    found.append(process)
        return found

    def _ours(self, process: psutil.Process) -> bool:
        return process.pid != os.getpid() and any(str(self.folder) in word for word in process.cmdline())

    def close(self) -> None:
        """End every process of this bench, by pid, until none is left."""
        for daemon in self.daemons:
            if daemon.poll() is None:
                daemon.kill()
            daemon.wait()
        deadline = time.monotonic() + PATIENCE
        while processes := self.processes():
            for process in processes:
                with contextlib.suppress(psutil.Error):
                    process.kill()
            assert time.monotonic() < deadline, processes
            psutil.wait_procs(processes, timeout=1)


class Life:
    """One trainer, from its own words."""

    def __init__(self, start: dict[str, Any]) -> None:
        self.start = start
        self.end: dict[str, Any] | None = None

    def __repr__(self) -> str:
        end = f"{self.end['t']:.3f}" if self.end else "?"
        return f"{self.run}#{self.start['attempt']} {self.start['t']:.3f}-{end}"

    @property
    def run(self) -> str:
        return str(self.start["run"])

    @property
    def finished(self) -> bool:
        return self.end is not None and self.end.get("code") == 0


def overlaps(lives: list[Life]) -> list[tuple[Life, Life]]:
    """Return pairs of trainers of one run that lived at the same time."""
    found = []
    for run in {life.run for life in lives}:
        own = sorted((life for life in lives if life.run == run), key=lambda life: life.start["t"])
        found += [(a, b) for a, b in pairwise(own) if a.end is None or a.end["t"] > b.start["t"]]
    return found


def most_at_once(lives: list[Life]) -> int:
    """Return the largest number of trainers that lived at the same time."""
    moments = sorted(
        [(life.start["t"], 1) for life in lives] + [(life.end["t"], -1) for life in lives if life.end is not None]
    )
    most = now = 0
    for _, change in moments:
        now += change
        most = max(most, now)
    return most


@contextlib.contextmanager
def bench_in(folder: Path, make: Callable[..., Any] = Bench, **settings: Any) -> Iterator[Any]:
    """A bench, or what else `make` makes, that leaves no process behind and fails where a daemon logged an exception."""
    bench = make(folder, **settings)
    try:
        yield bench
        faults = bench.faults()
    finally:
        bench.close()
    assert not faults, json.dumps(faults, indent=1)


def alive(pid: int) -> bool:
    """Whether a process runs; a zombie does not."""
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False


def end(pid: int, number: signal.Signals = signal.SIGKILL) -> None:
    """Signal one process."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)


def serving(home: Home) -> int | None:
    """Return the pid of the daemon that serves the home."""
    return running_pid(home.lock)
