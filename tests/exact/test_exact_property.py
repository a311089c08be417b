"""Random configurations of the matrix, killed again and again at labelled points and at moments that nobody has chosen:
each ends in the bytes of the stock command.

$STOKER_EXACT_KILLS says how many kills (200), $STOKER_EXACT_SEED which ones. What is done to a configuration follows
from the seed and its number alone, so one that failed is repeated by its name: `pytest -m exact -k NAME`.
"""

import os
import random
import time
from collections import Counter

import pytest
from harness_campaign import Campaign
from harness_exact import assert_exact, measured
from harness_matrix import Case, random_case
from harness_trainer import Attempt, TrainerRun, adapters_of, stock

from stoker.supervisor.failpoints import list_points

pytestmark = [pytest.mark.exact, pytest.mark.training]

KILLS = int(os.environ.get("STOKER_EXACT_KILLS", "200"))
SEED = os.environ.get("STOKER_EXACT_SEED", "20261122")
EACH = 10  # kills of one configuration
LAST = 2  # kills around the final adapter
DEALT = 6  # of them at points that are dealt out in turn, so that each point has its share
NUMBERS = range(-(-KILLS // EACH))
ITERS = 40
POINTS = tuple(point for point in list_points() if point.startswith(("checkpoint.", "adapter.", "trainer.")))
MOMENT = "any moment"
SLOW = (  # for kills at any moment: windows of different places are opened
    "",
    "trainer.iteration.end:delay=0.05",
    "trainer.iteration.end:delay=0.02,checkpoint.weights.write:delay=0.05,checkpoint.manifest.before:delay=0.05",
)
struck: Counter[str] = Counter()  # kills of this session by where they fell


class RandomCampaign(Campaign):
    """Kills wherever the configuration and the position of the run allow it."""

    def __init__(self, run: TrainerRun, case: Case, number: int) -> None:
        super().__init__(run, seed=0)
        self.random = random.Random(f"{SEED}-{number}-kills")
        self._case = case
        self._dealt = deal(number)

    def strike(self, left: int) -> None:
        """One more kill; after it `left` more are to come."""
        possible = self._possible()
        if left >= LAST:  # later kills should find a run that still trains
            ending = "adapter" if self._case.values["save"] == "never" else "adapter.final"
            possible = {point: count for point, count in possible.items() if not point.startswith(ending)}
        dealt = next((point for point in self._dealt if point in possible), None)
        if dealt:
            self._dealt.remove(dealt)
        elif self.random.random() < 0.25:
            dealt = self.random.choice(list(possible))
        kind = f"{dealt}:kill@{self.random.randint(1, possible[dealt])}" if dealt else "moment"
        self.carry_out([kind])
        struck[self.kills[-1].where.partition(":")[0]] += 1

    def moment(self) -> tuple[str, Attempt]:
        """At any moment: from the start of the process on, or once it trains."""
        slow, loaded = self.random.choice(SLOW), self.random.random() < 0.5
        delay = self.random.uniform(0.0, 0.5 if loaded else 4.0)
        attempt = self.run.launch(failpoints=slow)
        if loaded:
            attempt.wait_until(lambda beat: beat["phase"] not in {"start", "load"})
        end = time.monotonic() + delay
        attempt.wait_until(lambda _beat: time.monotonic() >= end)
        attempt.process.kill()
        if attempt.wait() == 0:  # the run has ended before that moment
            return self._strike("trainer.load.before:kill")
        return f"{MOMENT}: {delay:.3f} s after {'loading' if loaded else 'its start'}", attempt

    def _possible(self) -> dict[str, int]:
        """The points that the next attempt will reach, each with how often at least."""
        values, start = self._case.values, self._start()
        every = self.run.every["iterations"]
        accumulation = int(values["accumulation"])
        steps = ITERS // accumulation * accumulation - start
        left = ITERS - start
        per_commit = max(every, accumulation)
        commits = min(2, max(1, steps // (2 * per_commit))) if steps > 0 else 0
        pruned = len(self.run.checkpoints) >= self.run.keep and steps >= 4 * per_commit
        validates = values["validation"] not in {"0", "no-set"} and left > 0
        reached = {
            "trainer.load.before": 1,
            "trainer.inputs.before": int(not (self.run.folder / "inputs.json").exists()),
            "trainer.loop.begin": 1,
            "trainer.compile.before": int(left > 0),
            "trainer.validate.batch": int(validates),
            "trainer.iteration.end": min(8, left),
        }
        for point in POINTS:
            if point.startswith("checkpoint."):
                reached[point] = int(pruned) if "prune" in point else commits
            elif point.startswith("adapter."):
                reached[point] = 1
        return {point: count for point, count in reached.items() if count}


def deal(number: int) -> list[str]:
    """The points at which a configuration should be killed, each in its turn over the whole campaign."""
    deck = list(POINTS)
    random.Random(SEED).shuffle(deck)
    hand = [deck[(number * DEALT + index) % len(deck)] for index in range(DEALT)]
    return sorted(
        hand, key=lambda point: point != "trainer.inputs.before"
    )  # they are written at the very beginning only


@pytest.mark.timeout(1800)
@pytest.mark.parametrize("number", NUMBERS, ids=lambda number: f"{SEED}-{number}")
def test_random_kills_of_a_random_configuration_end_in_the_bytes_of_the_stock_command(number, variants, tmp_path):
    source = random.Random(f"{SEED}-{number}")
    case = random_case(f"{SEED}-{number}", source, iters=str(ITERS))
    config = case.config | {"seed": source.randint(0, 99)}
    every, keep = source.choice([2, 3, 4]), source.choice([1, 2, 3])
    tiny = variants(case)
    with measured(case.name, "stock"):
        expected = adapters_of(stock(tiny, config, tmp_path / "stock"))
    run = TrainerRun(tmp_path / "run", tiny, config, every={"iterations": every, "seconds": None}, keep=keep)
    campaign = RandomCampaign(run, case, number)
    title = f"\n{case.name}: seed={config['seed']} every={every} keep={keep} {case.words or 'all first values'}"

    try:
        with measured(case.name, "killed"):
            for left in reversed(range(min(EACH, KILLS - number * EACH))):
                campaign.strike(left)
            last = run.finish()
        assert_exact(last, "exact" if last.of_kind("start")[0]["from_iteration"] else "fresh")
        assert adapters_of(run.adapter) == expected
    finally:
        print(campaign.table(f"{title}: {len(campaign.kills)} kills"))


def test_the_campaign_has_reached_each_labelled_point():
    """Over the whole campaign; part of it, chosen by name, need not."""
    kills = sum(struck.values())
    print(f"\n{kills} kills, {struck[MOMENT]} of them at moments that nobody has chosen")
    if kills < max(KILLS, 4 * len(POINTS)):
        pytest.skip(f"{kills} kills in this session: too few to reach each of {len(POINTS)} points")
    assert [point for point in POINTS if not struck[point]] == []
