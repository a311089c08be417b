"""The ladder of nan_loss in a made-up world: a learning rate that is too high spoils the weights long before it shows."""

from dataclasses import dataclass, field, replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stoker.recovery.adjust import apply, eased_from
from stoker.recovery.plan import Current, PastAttempt, Situation, plan

ABLE = frozenset({"resume", "learning_rate"})


@dataclass(frozen=True)
class Diagnosis:
    onset: int
    cause: str = "nan_loss"
    fingerprint: str = ""
    retryable: str = "adjusted"
    findings: tuple = ()
    advice: str = ""
    confidence: float = 1.0


@dataclass
class World:
    """A run that goes nan at `onset` unless the learning rate was at most `cure` at iteration `spoiled`.

    A lower rate from a spoiled checkpoint only delays it, by `delay` iterations for each halving.
    """

    iters: int
    onset: int
    spoiled: int
    cure: float
    delay: int
    every: int
    keep: int
    start_over: str = "ask"
    lost_s: float = 60.0
    rates: dict = field(default_factory=dict)  # iteration -> factor in effect there
    disk: list = field(default_factory=list)  # iterations of the checkpoints
    records: list = field(default_factory=list)
    starts: dict = field(default_factory=dict)
    history: list = field(default_factory=list)
    factor: float = 1.0

    def attempt(self, start: int) -> int | None:
        """Train from `start`; return the iteration of the nan, None at the end."""
        n = len(self.starts) + 1
        self.starts[n] = start
        self.disk = [i for i in self.disk if i <= start]
        factors = apply({}, self.records, self.starts).learning_rate
        self.rates = {i: rate for i, rate in self.rates.items() if i <= start}
        for iteration in range(start + 1, self.iters + 1):
            if self._is_nan(iteration):
                return iteration
            self.rates[iteration] = 1.0
            for row in factors:
                self.rates[iteration] *= row["factor"] if iteration > row["from_step"] else 1.0
            if iteration % self.every == 0:
                self.disk = [*self.disk, iteration][-self.keep :]
        return None

    def _is_nan(self, iteration: int) -> bool:
        if self.rates.get(self.spoiled, 0.0) <= self.cure:
            return False
        eased = sum(rate < 1.0 for rate in self.rates.values())
        return iteration >= self.onset + min(eased, self.delay)

    def run(self) -> tuple[str, list]:
        """Let the plans work until they end; return the last action and the rungs."""
        start, rungs = 0, []
        for _ in range(60):
            onset = self.attempt(start)
            if onset is None:
                return "completed", rungs
            made = self._plan(start, onset)
            rungs.append(made.row.partition("/")[2])
            if made.target is None:
                return made.action, rungs
            self.history[-1] = replace(self.history[-1], plan=made.row, counted=made.counted)
            if made.adjustment:
                self.factor *= made.adjustment.launch["factor"]
                self.records.append({"attempt": len(self.starts) + 1, **made.adjustment.record()})
            start = made.target
        raise AssertionError(f"it goes on for ever: {rungs}")

    def _plan(self, start: int, onset: int):
        n = len(self.starts)
        good = tuple(sorted((i for i in self.disk if i < onset), reverse=True))
        best = max((i for i in good if i > start), default=None)
        self.history.append(PastAttempt(n, "nan_loss", "", start, onset - 1, best, None, True, onset))
        return plan(
            Situation(
                diagnosis=Diagnosis(onset), attempt=n, history=tuple(self.history),
                current=Current(
                    batch_size=4, micro_batch=None, grad_checkpoint=False, max_seq_length=64, lr_factor=self.factor,
                    learning_rate=self.factor, step=onset - 1, eased_from=eased_from(self.records, self.starts, 1),
                ),
                good=good, lossy="allow", start_over=self.start_over, lost_seconds_if_restarted=self.lost_s,
                capabilities=ABLE,
            )
        )  # fmt: skip


@settings(deadline=None)
@given(
    onset=st.integers(2, 90),
    share=st.floats(0, 1),
    delay=st.integers(0, 200),
    every=st.integers(1, 60),
    keep=st.integers(1, 10),
)
def test_half_the_learning_rate_from_the_start_is_always_reached_where_it_is_cheap(onset, share, delay, every, keep):
    spoiled = max(1, round(share * (onset - 1)))
    world = World(iters=120, onset=onset, spoiled=spoiled, cure=0.5, delay=delay, every=every, keep=keep)

    end, rungs = world.run()

    assert end == "completed", rungs
    assert rungs[0] == "replay"
    assert rungs[1] == "halve-learning-rate"
    assert world.factor == 0.5, rungs
    assert len(rungs) <= 6


@settings(deadline=None)
@given(
    onset=st.integers(2, 90),
    cure=st.floats(0.0, 0.3),
    delay=st.integers(0, 200),
    every=st.integers(1, 60),
    start_over=st.sampled_from(["ask", "never", "allow"]),
    lost_s=st.sampled_from([60.0, 90_000.0]),
)
def test_it_always_ends(onset, cure, delay, every, start_over, lost_s):
    world = World(400, onset, max(1, onset // 2), cure, delay, every, 3, start_over, lost_s)

    end, rungs = world.run()

    assert end in {"completed", "fail", "hold"}
    assert len(rungs) < 40


def test_a_long_run_goes_further_back_on_the_disk_before_it_asks():
    world = World(2000, onset=1000, spoiled=975, cure=0.5, delay=0, every=20, keep=3, lost_s=90_000.0)

    end, rungs = world.run()

    assert (end, rungs) == ("completed", ["replay", "halve-learning-rate", "further-back"])
    assert world.starts[4] == 960


def test_where_nothing_on_the_disk_is_old_enough_a_person_is_asked():
    world = World(2000, onset=1000, spoiled=700, cure=0.5, delay=0, every=20, keep=3, lost_s=90_000.0)

    end, rungs = world.run()

    assert end == "hold"
    assert rungs[-1] == "ask-to-start-over"
    assert rungs.count("further-back") == 2


@pytest.mark.parametrize(("good", "accumulation", "target"), [
    ((60, 58, 56), 1, 56),  # none is ten steps away: the oldest
    ((60, 50, 40), 1, 50),
    ((60,), 1, 0),  # no step lies between it and the onset: the same would come again
    ((59,), 1, 59),
    ((60, 56), 4, 56),
    ((58, 40, 20), 4, 20),  # ten steps are forty iterations
])  # fmt: skip
def test_a_lower_learning_rate_begins_early_enough_to_matter(good, accumulation, target):
    first = PastAttempt(1, "nan_loss", "", 0, 60, 60, "nan_loss/replay", True, 61)
    this = PastAttempt(2, "nan_loss", "", 60, 60, None, None, True, 61)
    current = Current(
        batch_size=4, micro_batch=None, grad_checkpoint=False, max_seq_length=64, lr_factor=1.0, learning_rate=1e-4,
        step=60 // accumulation, grad_accumulation_steps=accumulation,
    )  # fmt: skip
    made = plan(Situation(Diagnosis(61), 2, (first, this), current, good, "allow", "allow", 60.0, ABLE))
    assert (made.row, made.target) == ("nan_loss/halve-learning-rate", target)
