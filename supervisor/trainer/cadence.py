"""When the next checkpoint is due: what a person asked for, or what costs least.

Young's formula gives the distance between checkpoints at which writing them and repeating lost work cost the same:
the square root of 2 x cost x time between failures. It is an upper bound here, like 15 minutes and the job's share of
iterations. The lower bounds are stronger: checkpoints may take one per cent of the time, and may write so many bytes
a day. Both are kept as an account that starts with a little credit, so that a short run need not wait for it to fill.
Standard library only.
"""

import math
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from statistics import median
from typing import Any

from stoker.supervisor.trainer.launch import Rhythm

_SHARE = 0.01  # of the time, for checkpoints
_ADVANCE_S = 1.0  # credit at the start: the checkpoints of a run of seconds
_ADVANCE_BYTES = 1_000_000_000
_SMALL_S = 0.05  # what costs less need not wait for its own hundredfold, only for the account
_ASSUMED_BYTES_PER_S = 5e9  # before anything was measured; half a billion parameters on an H100 took 0.6 s for 3.2 GB
_TYPICAL = 64  # iterations whose median is the usual duration ...
_ENOUGH = 3  # ... and so many at least, since the first ones compile


@dataclass(frozen=True, slots=True)
class Cost:
    """What one checkpoint takes.

    Attributes:
        seconds: by which training came later than without it: its wait for the snapshot, and slower iterations while
            the writer's thread was at work.
        bytes: written.
    """

    seconds: float
    bytes: int

    @classmethod
    def from_json(cls, document: Mapping[str, Any] | None) -> "Cost | None":
        """The cost that an earlier attempt measured, from state.json."""
        return cls(float(document["seconds"]), int(document["bytes"])) if document else None

    def as_json(self) -> dict[str, Any]:
        """As it stands in state.json."""
        return {"seconds": round(self.seconds, 6), "bytes": self.bytes}


@dataclass(frozen=True, slots=True)
class Interval:
    """Seconds between two checkpoints, and the name of the bound that decides."""

    seconds: float
    because: str


class Cadence:
    """Decides after each iteration; told what iterations and checkpoints have cost."""

    def __init__(
        self, rhythm: Rhythm, clock: Callable[[], float], *, start: int = 0, known: Cost | None = None
    ) -> None:
        self._rhythm, self._clock = rhythm, clock
        self._began = self._since = clock()
        self._last = start
        self.cost = known
        self._spent_s, self._spent_bytes = 0.0, 0
        self.stall = 0.0  # seconds, of the last one
        self._usual: deque[float] = deque(maxlen=_TYPICAL)
        self._slowed: list[float] | None = None  # iterations while a write is under way
        self._assumed = False

    def expect(self, size: int) -> None:
        """A checkpoint will have so many bytes: what is assumed of its cost until one was written."""
        if self.cost is None:
            self.cost = Cost(size / _ASSUMED_BYTES_PER_S, size)
            self._assumed = True

    @property
    def measured(self) -> Cost | None:
        """The cost as it was measured, for the attempts to come; None while it is only assumed."""
        return None if self._assumed else self.cost

    def is_due(self, iteration: int) -> bool:
        """Whether to commit after this iteration.

        A number of iterations that a person asked for is kept exactly, at multiples, so that resumed attempts commit
        at the same iterations; so is a time. What the rule of min(1000, iters / 20) and `auto` want has to be
        affordable.
        """
        wish = self._rhythm
        elapsed = self._clock() - self._since
        if wish.auto:
            apart = iteration - self._last
            bounded = bool(wish.iterations) and apart >= (wish.iterations or 0)
            return (bounded or elapsed >= self._ceiling().seconds) and self._affordable()
        if wish.seconds is None:
            return bool(wish.iterations) and iteration % (wish.iterations or 1) == 0
        by_rule = bool(wish.iterations) and iteration - self._last >= (wish.iterations or 0)
        return elapsed >= wish.seconds or (by_rule and self._affordable())

    def interval(self) -> Interval:
        """The distance in time that is aimed at now; iterations may come first."""
        if not self._rhythm.auto:
            return Interval(self._rhythm.seconds or math.inf, "as the job says")
        floors = [Interval(0.0, "")]
        if self.cost is not None:
            floors.append(Interval(self.cost.seconds / _SHARE, "1 % of time"))
            if self._rhythm.write_per_s:
                floors.append(Interval(self.cost.bytes / self._rhythm.write_per_s, "write budget"))
        floor = max(floors, key=lambda row: row.seconds)
        ceiling = self._ceiling()
        return floor if floor.seconds > ceiling.seconds else ceiling

    def iterated(self, seconds: float, *, writing: bool) -> None:
        """An iteration took so long; `writing` if a checkpoint was being written meanwhile. Not to be told of iterations
        that compile: they say nothing about the usual time, and nothing about what a write costs.
        """
        if writing and self._slowed is not None:
            self._slowed.append(seconds)
        elif not writing:
            self._usual.append(seconds)

    def handed_over(self, iteration: int, stall: float) -> None:
        """A snapshot was given to the writer; training stood still for `stall` seconds."""
        self._since, self._last = self._clock(), iteration
        self.stall, self._slowed = stall, []

    def committed(self, size: int, took: float) -> None:
        """The write of `size` bytes has ended after `took` seconds: now its cost is known. A thread beside the training
        cannot have held it up for longer than it ran.
        """
        slowed = self._slowed or []
        usual = median(self._usual) if len(self._usual) >= _ENOUGH else None
        extra = max(0.0, sum(slowed) - len(slowed) * usual) if usual is not None else 0.0
        seconds = self.stall + min(extra, took)
        before = self.measured.seconds if self.measured else seconds
        self.cost = Cost((before + seconds) / 2, size)  # half the old value: one noisy measurement must not rule
        self._assumed = False
        self._spent_s += seconds
        self._spent_bytes += size
        self._slowed = None

    def _ceiling(self) -> Interval:
        ceilings = [Interval(self._rhythm.seconds or math.inf, "15 min")]
        if self.measured is not None and self._rhythm.mtbf_s:
            young = math.sqrt(2 * self.measured.seconds * self._rhythm.mtbf_s)
            ceilings.append(Interval(young, "time between failures"))
        return min(ceilings, key=lambda row: row.seconds)

    def _affordable(self) -> bool:
        """Whether the accounts of time and of bytes can pay for one more."""
        if self.cost is None or self._slowed is not None:
            return False  # nothing was trained yet, or the one before is still being written
        now, rate = self._clock(), self._rhythm.write_per_s
        elapsed = now - self._began
        apart = self.cost.seconds <= max(_SMALL_S, _SHARE * (now - self._since))
        in_time = self._spent_s + self.cost.seconds <= _ADVANCE_S + _SHARE * elapsed
        in_bytes = not rate or self._spent_bytes + self.cost.bytes <= _ADVANCE_BYTES + rate * elapsed
        return apart and in_time and in_bytes
