"""Seeded SIGKILL campaigns against a trainer: where each kill falls follows from the seed, and that it fell there is
checked.
"""

import random
import time
from collections.abc import Callable
from dataclasses import dataclass

from harness_trainer import Attempt, TrainerRun, cold_cache, end_group

KILLED = -9
WRITER_POINTS = (
    "checkpoint.begin",
    "checkpoint.weights.before",
    "checkpoint.weights.write",
    "checkpoint.weights.fsync",
    "checkpoint.weights.after",
    "checkpoint.optimizer.before",
    "checkpoint.optimizer.write",
    "checkpoint.optimizer.fsync",
    "checkpoint.optimizer.after",
    "checkpoint.state.before",
    "checkpoint.state.fsync",
    "checkpoint.state.after",
    "checkpoint.manifest.before",
    "checkpoint.manifest.fsync",
    "checkpoint.manifest.after",
    "checkpoint.folder.fsync",
    "checkpoint.rename.before",
    "checkpoint.rename.after",
    "checkpoint.parent.fsync.after",
    "checkpoint.prune.before",
    "checkpoint.prune.after",
)
ANYWHERE_POINTS = ("trainer.iteration.end", "adapter.save.before", "adapter.rename.before", "adapter.rename.after")


@dataclass(frozen=True)
class Kill:
    """One kill that happened: where it was meant to fall and what the trainer was doing."""

    kind: str
    where: str
    phase: str
    iteration: int
    newest: str

    @property
    def line(self) -> str:
        return f"{self.kind:<10} {self.where:<34} {self.phase:<10} {self.iteration:>4}   {self.newest}"


class Campaign:
    """Kills one run again and again. Each kind of kill is a method of its name."""

    def __init__(self, run: TrainerRun, seed: int) -> None:
        self.run = run
        self.random = random.Random(seed)
        self.kills: list[Kill] = []

    def carry_out(self, kinds: list[str]) -> None:
        """All the kills in this order; each must have fallen where it was meant to."""
        for kind in kinds:
            strike: Callable[[], tuple[str, Attempt]] = getattr(self, kind)
            where, attempt = strike()
            beat = attempt.heartbeat()
            code = attempt.process.returncode
            assert code == KILLED, f"{kind} at {where}: exit {code}, {beat}\n{attempt.log[-3000:]}"
            newest = self.run.checkpoints[0].name if self.run.checkpoints else "-"
            self.kills.append(Kill(kind, where, beat["phase"], beat["iteration"], newest))
            self.run.check_whole()

    def early(self) -> tuple[str, Attempt]:
        """Before the first checkpoint: while loading, or after a few iterations."""
        point = self.random.choice(
            ["trainer.load.before:kill", f"trainer.iteration.end:kill@{self.random.randint(1, 3)}"]
        )
        attempt = self._suicide(point)
        assert not self.run.checkpoints
        return point, attempt

    def writer(self) -> tuple[str, Attempt]:
        """Inside the checkpoint writer."""
        enough = len(self.run.checkpoints) >= self.run.keep  # before that nothing is pruned
        points = [point for point in WRITER_POINTS if enough or "prune" not in point]
        point = f"{self.random.choice(points)}:kill@1"
        return point, self._suicide(point)

    def validate(self) -> tuple[str, Attempt]:
        """In a validation, at its first or second batch."""
        point = f"trainer.validate.batch:kill@{self.random.randint(1, 2)}"
        attempt = self._suicide(point)
        assert attempt.heartbeat()["phase"] == "validate"
        return point, attempt

    def compiling(self) -> tuple[str, Attempt]:
        """While the step is compiled, with a cold cache of its own; the shared warm one is not touched."""
        with cold_cache(self.run.folder) as cold:
            attempt = self.run.launch(jit=cold)
            assert attempt.wait_until(lambda beat: beat["phase"] == "compile"), attempt.log[-3000:]
            delay = self.random.uniform(0.0, 1.5)  # a cold compilation takes many seconds
            time.sleep(delay)
            end_group(attempt)
            assert attempt.heartbeat()["phase"] == "compile", attempt.heartbeat()
        return f"{delay:.2f} s into compiling", attempt

    def anywhere(self) -> tuple[str, Attempt]:
        """Between two iterations, around an adapter's rename, or at a moment that nobody has chosen."""
        start = self._start()
        if self.random.random() < 0.5:
            point = self.random.choice(ANYWHERE_POINTS)
            count = self.random.randint(1, 5) if point == "trainer.iteration.end" else 1
            return f"{point}:kill@{count}", self._suicide(f"{point}:kill@{count}")
        after, delay = start + self.random.randint(0, 4), self.random.uniform(0.0, 0.15)
        attempt = self.run.launch()
        attempt.wait_until(lambda beat: beat["phase"] not in {"start", "load"} and beat["iteration"] >= after)
        time.sleep(delay)
        end_group(attempt)
        return f"{delay:.3f} s after iteration {after}", attempt

    def later(self) -> tuple[str, Attempt]:
        """Some iterations after a checkpoint of this attempt."""
        point = f"trainer.iteration.end:kill@{self.random.randint(5, 7)}"
        return point, self._suicide(point)

    def _start(self) -> int:
        return int(self.run.checkpoints[0].name.split("-")[0]) if self.run.checkpoints else 0

    def _suicide(self, failpoint: str) -> Attempt:
        attempt = self.run.launch(failpoints=failpoint)
        attempt.wait()
        return attempt

    def table(self, title: str) -> str:
        """What was done, for people."""
        head = f"{title}\n  {'kind':<10} {'where':<34} {'phase':<10} {'iter':>4}   newest checkpoint afterwards"
        return "\n".join([head, *(f"  {kill.line}" for kill in self.kills)])
