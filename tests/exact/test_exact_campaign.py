"""The long form of the exactness proof (make exact): twenty SIGKILLs for each kind of training, and the bytes of the
stock command at the end.
"""

import random

import pytest
from harness_campaign import Campaign
from harness_trainer import KINDS, TrainerRun, adapters_of, stock, tiny_for_tests

ITERS = 84
FIRST = ["early", "early"]
REST = ["writer"] * 5 + ["compiling"] * 3 + ["validate"] * 2 + ["anywhere"] * 8
SEEDS = {"full": 11, "lora": 22, "dropout": 33}


@pytest.mark.exact
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("kind", sorted(KINDS))
def test_twenty_kills_end_in_the_bytes_of_the_stock_command(kind, tmp_path):
    """5 kills inside the checkpoint writer, 3 while compiling, 2 in validation, 2 before the first checkpoint, 8
    anywhere.
    """
    tiny = tiny_for_tests(tmp_path / "tiny")
    config = KINDS[kind] | {"iters": ITERS}
    expected = adapters_of(stock(tiny, config, tmp_path / "stock"))
    run = TrainerRun(tmp_path / "run", tiny, config, keep=2)
    campaign = Campaign(run, SEEDS[kind])
    rest = list(REST)
    random.Random(SEEDS[kind]).shuffle(rest)

    campaign.carry_out(FIRST + rest)
    last = run.finish()

    print(campaign.table(f"\n{kind}: {len(campaign.kills)} kills, {run.attempts} attempts, {ITERS} iterations"))
    print(f"  {len(expected)} adapters; final sha256 {expected['adapters.safetensors']}")
    assert adapters_of(run.adapter) == expected
    assert last.of_kind("final")[0]["sha256"] == expected["adapters.safetensors"]
