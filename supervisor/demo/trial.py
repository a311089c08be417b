"""Whether this machine repeats itself, found out by trying (`stoker doctor --exact`).

For full fine-tuning and for LoRA a tiny model is trained three times: by Stoker under a real daemon, killed once, and
twice by the stock command with the configuration of Stoker's first attempt. Exact means: three times the same bytes.
"""

import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from stoker.supervisor.demo import jobs
from stoker.supervisor.demo.serving import run_job
from stoker.supervisor.demo.tiny import Tiny
from stoker.supervisor.errors import StokerError
from stoker.supervisor.files import read_lines
from stoker.supervisor.paths import Home
from stoker.supervisor.trainer.machine import Machine

KINDS = ("full", "lora")


@dataclass(frozen=True, slots=True)
class Ours:
    """What Stoker's trainer made: sha256 of its weights, and the machine it found itself on."""

    sha256: str
    machine: Machine


class Trainings(Protocol):
    """The trainings of a trial."""

    def ours(self, kind: str) -> Ours:
        """Train with Stoker's trainer, killed once; it comes first, and its first attempt writes the configuration."""
        ...

    def stock(self, kind: str, number: int) -> str:
        """Train with the stock command; the sha256 of its weights."""
        ...


@dataclass(frozen=True, slots=True)
class Tried:
    """Three trainings of one kind: the sha256 of their weights."""

    kind: str
    stock: tuple[str, str]
    ours: str

    @property
    def repeats(self) -> bool:
        """Whether the two stock runs agree."""
        return self.stock[0] == self.stock[1]

    @property
    def exact(self) -> bool:
        """Whether all three agree."""
        return self.repeats and self.ours == self.stock[0]


@dataclass(frozen=True, slots=True)
class Trial:
    """All trainings, and where they were made."""

    machine: Machine
    tried: tuple[Tried, ...]

    @property
    def exact(self) -> bool:
        """Whether attempts on this machine may be called exact."""
        return all(tried.exact for tried in self.tried)

    @property
    def words(self) -> str:
        """The result, and what follows from it."""
        if self.exact:
            return "exact: two stock runs agree with each other here, and Stoker's trainer, killed once, with both"
        differing = [tried.kind for tried in self.tried if not tried.repeats]
        if differing:
            return (
                f"not exact: two stock runs of one configuration differ ({', '.join(differing)}). This machine does not "
                "repeat itself, with or without Stoker: attempts that resume are called warm, with the reason "
                "unproved_machine"
            )
        ours = ", ".join(tried.kind for tried in self.tried if not tried.exact)
        return (
            f"not exact: two stock runs agree, but Stoker's trainer, killed once, does not end in their bytes ({ours}). "
            "That is a fault of Stoker, please report it; attempts that resume are called warm, with the reason "
            "unproved_machine"
        )

    def verdict(self, at: str | None) -> dict[str, Any]:
        """What exactness.json keeps (supervisor/exactness.py)."""
        kinds = {tried.kind: {"stock": list(tried.stock), "ours": tried.ours} for tried in self.tried}
        return {"machine": self.machine.as_json(), "exact": self.exact, "at": at, "kinds": kinds}


def perform(trainings: Trainings, say: Callable[[str], None]) -> Trial:
    """Carry out all trainings, saying what each made.

    Raises:
        StokerError: one of them failed.
    """
    tried = []
    for kind in KINDS:
        ours = trainings.ours(kind)
        say(f"{kind:<5} Stoker, killed once  {ours.sha256}")
        stock = []
        for number in (1, 2):
            stock.append(trainings.stock(kind, number))
            say(f"{kind:<5} python -m mlx_lm     {stock[-1]}")
        tried.append(Tried(kind, (stock[0], stock[1]), ours.sha256))
    return Trial(ours.machine, tuple(tried))


@dataclass(frozen=True, slots=True)
class RealTrainings:
    """Trainings under the daemon of `home`, with their files in `folder`.

    Attributes:
        home: served by a daemon.
        folder: what the stock command writes goes here.
        tiny: model and data.
        python: the interpreter that trains.
    """

    home: Home
    folder: Path
    tiny: Tiny
    python: Path = Path(sys.executable)

    def ours(self, kind: str) -> Ours:
        """Train with Stoker's trainer, killed once."""
        job = jobs.write(jobs.trial(kind, self.tiny, self.python), self.folder / f"trial-{kind}.yaml")
        shown, _ = run_job(self.home, job, lambda _: None)
        final = shown["final"] or {}
        if shown["state"] != "completed" or len(shown["attempts"]) != 2 or not final.get("sha256"):
            raise StokerError(
                f"the training with Stoker ended {shown['state']} after {len(shown['attempts'])} attempts, where "
                f"completed after 2 was expected: {shown['reason']}",
                hint=f"stoker --home {self.home.dir} explain {shown['run_id']}",
            )
        rows = read_lines(self.home.run(shown["run_id"]).attempt(2).metrics)
        start = next(row for row in rows if row.get("kind") == "start")
        return Ours(final["sha256"], Machine.here(start["device"], start["versions"]))

    def stock(self, kind: str, number: int) -> str:
        """Train with the stock command and the configuration of Stoker's first attempt."""
        config = self.home.run(self._run_id(kind)).attempt(1).config
        return jobs.stock_run(config, self.folder / f"stock-{kind}-{number}", self.home.cache / "jit-1", self.python)

    def _run_id(self, kind: str) -> str:
        from stoker.supervisor.store.read import Reader

        with Reader(self.home) as reader:
            return reader.find(f"trial-{kind}")
