"""Seeded SIGKILL campaigns against a trainer: where each kill falls follows from the seed, and that it fell there is
checked.
"""

import random
import time
from collections.abc import Callable
from dataclasses import dataclass

from harness_trainer import Attempt, TrainerRun, cold_cache, end_group

from stoker.supervisor.failpoints import list_points

KILLED = -9
WRITER_POINTS = tuple(point for point in list_points() if point.startswith("checkpoint."))
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
        return f"{self.kind:<10} {self.where:<38} {self.phase:<10} {self.iteration:>4}   {self.newest}"


class Campaign:
    """Kills one run again and again. A kind of kill is the name of a method, or a failpoint such as
    "checkpoint.rename.before:kill@2".
    """

    def __init__(self, run: TrainerRun, seed: int) -> None:
        self.run = run
        self.random = random.Random(seed)
        self.kills: list[Kill] = []

    def carry_out(self, kinds: list[str]) -> None:
        """All the kills in this order; each must have fallen where it was meant to."""
        for kind in kinds:
            where, attempt = self._strike(kind)
            beat = attempt.heartbeat()
            code = attempt.process.returncode
            assert code == KILLED, f"{kind} at {where}: exit {code}, {beat}\n{attempt.log[-3000:]}"
            newest = self.run.checkpoints[0].name if self.run.checkpoints else "-"
            name = "labelled" if ":" in kind else kind
            self.kills.append(Kill(name, where, beat["phase"], beat["iteration"], newest))
            self.run.check_whole()

    def _strike(self, kind: str) -> tuple[str, Attempt]:
        if ":" in kind:
            return kind, self._suicide(kind)
        method: Callable[[], tuple[str, Attempt]] = getattr(self, kind)
        return method()

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
        attempt.process.kill()  # not its compilers: they may be at work on a kernel of the shared cache
        attempt.wait()
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
        head = f"{title}\n  {'kind':<10} {'where':<38} {'phase':<10} {'iter':>4}   newest checkpoint afterwards"
        return "\n".join([head, *(f"  {kill.line}" for kill in self.kills)])
