"""When a checkpoint is due, with a clock that the test moves."""

import itertools
import math

import pytest

from stoker.supervisor.trainer.cadence import Cadence, Cost
from stoker.supervisor.trainer.launch import Rhythm

HOUR, DAY, GB = 3600.0, 86_400.0, 10**9
BUDGET = 2e12 / DAY  # 2 TB a day


class Clock:
    def __init__(self):
        self.now = 1000.0

    def __call__(self):
        return self.now


def train(rhythm, iterations, seconds, *, stall=0.001, size=1000, writing=0, slower=1.0, known=None, start=0):
    """Iterations after which a checkpoint was committed; each write lasts `writing` iterations."""
    clock, due, left = Clock(), [], 0
    cadence = Cadence(rhythm, clock, start=start, known=known)
    cadence.expect(size)
    for iteration in range(start + 1, iterations + 1):
        took = seconds * (slower if left else 1.0)
        clock.now += took
        cadence.iterated(took, writing=left > 0)
        if cadence.is_due(iteration):
            if left:
                cadence.committed(
                    size, writing * seconds * slower
                )  # a person's interval does not wait for the writer: the loop does
            due.append(iteration)
            clock.now += stall
            cadence.handed_over(iteration, stall)
            left = writing + 1
        left -= left > 0
        if not left and due and due[-1] + writing == iteration:
            cadence.committed(size, writing * seconds * slower)
    return due, cadence


def auto(iterations=1000, **more):
    return Rhythm(iterations, 900.0, auto=True, write_per_s=BUDGET, mtbf_s=DAY, **more)


def test_a_number_of_iterations_is_kept_exactly_whatever_it_costs():
    due, _ = train(Rhythm(4, None), 20, 0.01, stall=5.0, size=200 * GB)
    assert due == [4, 8, 12, 16, 20]


def test_multiples_also_after_a_resume():
    assert train(Rhythm(4, None), 12, 1.0, start=6)[0] == [8, 12]


def test_no_rhythm_is_no_checkpoint_but_the_last():
    assert train(Rhythm(None, None), 500, 10.0)[0] == []


def test_a_time_is_kept_and_the_rule_comes_first_where_it_is_affordable():
    assert train(Rhythm(50, 600.0), 200, 1.0)[0] == [50, 100, 150, 200]
    assert train(Rhythm(1000, 600.0), 130, 10.0)[0] == [60, 120]


def test_an_expensive_checkpoint_follows_the_time_alone():
    """The rule asks for one every 10 s; at 30 s each that would be most of the time."""
    due, _ = train(Rhythm(10, 600.0), 1300, 1.0, stall=30.0)
    assert due[:3] == [10, 610, 1210]


def test_short_cheap_runs_lose_no_more_than_the_rule():
    due, _ = train(auto(iterations=3), 60, 0.03, stall=0.002, size=2_000_000)
    assert due == list(range(3, 61, 3))


def test_a_large_checkpoint_waits_until_it_is_one_per_cent_of_the_time_also_before_its_cost_is_known():
    """Half a billion parameters on a GPU: 3.2 GB; a run of a minute is not slowed by one."""
    budgetless = Rhythm(12, 900.0, auto=True, write_per_s=None, mtbf_s=DAY)
    due, _ = train(budgetless, 5000, 0.03, stall=0.6, size=32 * GB // 10)
    assert due[0] * 0.03 == pytest.approx(64, abs=1)
    assert due[1] * 0.03 >= 2 * 60 - 1


def test_auto_keeps_to_one_per_cent_of_the_time():
    due, cadence = train(auto(iterations=20), 20_000, 0.03, stall=1.0, size=GB // 100)
    assert due[0] == 20  # small: the first one tells the cost
    assert len(due) * 1.0 <= 0.01 * 20_000 * 0.03 + 1.5
    assert len(due) >= 5
    assert cadence.interval().because == "time between failures"
    assert cadence.interval().seconds == pytest.approx(math.sqrt(2 * 1.0 * DAY))


def test_auto_keeps_to_the_write_budget():
    """24 GB each (4B, full): 2 TB a day are one every 17 minutes."""
    due, cadence = train(auto(), 4000, 10.0, stall=0.1, size=24 * GB)
    gaps = {later - earlier for earlier, later in itertools.pairwise(due)}
    assert cadence.interval().because == "write budget"
    assert cadence.interval().seconds == pytest.approx(24 * GB / BUDGET)
    assert len(due) * 24 * GB <= BUDGET * 40_000 + 25 * GB
    assert min(gaps) >= 100


def test_fifteen_minutes_are_the_most_where_nothing_forbids_it():
    due, cadence = train(auto(), 1000, 10.0, stall=6.0, size=GB)
    assert cadence.interval().because == "15 min"
    assert {b - a for a, b in itertools.pairwise(due)} <= {90, 91, 96}  # once the account has to fill first


def test_more_failures_bring_checkpoints_closer():
    often = Rhythm(1000, 900.0, auto=True, write_per_s=BUDGET, mtbf_s=HOUR)
    few, many = (train(rhythm, 2000, 1.0, stall=0.5)[0] for rhythm in (auto(), often))
    assert len(many) > 2 * len(few) > 0


def test_one_per_cent_outranks_the_time_between_failures():
    hopeless = Rhythm(1000, 900.0, auto=True, write_per_s=None, mtbf_s=60.0)
    _, cadence = train(hopeless, 1000, 1.0, stall=2.0)
    assert cadence.interval().because == "1 % of time"
    assert cadence.interval().seconds == pytest.approx(200.0)


def test_iterations_slowed_by_the_writer_are_part_of_the_cost():
    _, cadence = train(auto(iterations=50), 300, 1.0, stall=0.1, writing=10, slower=1.5)
    assert cadence.cost.seconds == pytest.approx(0.1 + 10 * 0.5, rel=0.25)


def test_a_slow_iteration_beside_a_short_write_is_not_put_down_to_it():
    """Something else held it up: the write ran for a hundredth of that time."""
    clock = Clock()
    cadence = Cadence(auto(), clock)
    for _ in range(10):
        cadence.iterated(0.01, writing=False)
    cadence.handed_over(10, 0.002)
    cadence.iterated(5.0, writing=True)
    cadence.committed(1000, 0.05)
    assert cadence.cost.seconds == pytest.approx(0.052)


def test_what_is_only_assumed_is_not_handed_on_as_measured():
    cadence = Cadence(auto(), Clock())
    cadence.expect(3 * GB)
    assert (cadence.cost is not None, cadence.measured) == (True, None)
    cadence.handed_over(10, 0.2)
    cadence.committed(3 * GB, 6.0)
    assert cadence.measured == Cost(0.2, 3 * GB)


def test_auto_never_waits_for_a_write_under_way():
    due, _ = train(Rhythm(5, 900.0, auto=True), 100, 0.001, stall=0.0001, writing=40)
    assert all(later - earlier > 40 for earlier, later in itertools.pairwise(due))


def test_what_an_earlier_attempt_measured_is_known_at_the_start():
    known = Cost.from_json(Cost(30.0, 10 * GB).as_json())
    assert known == Cost(30.0, 10 * GB)
    assert Cost.from_json(None) is None
    due, _ = train(auto(iterations=20), 1000, 1.0, known=known, stall=30.0, size=10 * GB)
    assert not due  # 50 min of training pay for the first
