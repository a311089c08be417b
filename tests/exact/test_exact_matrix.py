"""Every configuration of the matrix, and runs that go on after their end: the bytes of the stock command."""

import pytest
from harness_campaign import Campaign
from harness_exact import assert_exact, prove
from harness_matrix import CASES, LARGE
from harness_trainer import TrainerRun, adapters_of, stock

pytestmark = [pytest.mark.exact, pytest.mark.training, pytest.mark.timeout(1800)]


@pytest.mark.parametrize("case", LARGE, ids=lambda case: case.name)
def test_killed_and_undisturbed_runs_end_in_the_bytes_of_the_stock_command(case, variants, tmp_path):
    campaign = prove(case, variants, tmp_path)
    print(campaign.table(f"\n{case.name}: {case.words}"))


@pytest.mark.parametrize("short", [11, 12, 13])
@pytest.mark.parametrize("name", ["full-sgd", "lora-embedding-quantized", "full-validated-always"])
def test_more_iterations_after_the_end_go_on_exactly(name, short, variants, tmp_path):
    """The last validation of the shorter run is none of the longer one, and its end may lie within an accumulation."""
    case = CASES[name]
    tiny = variants(case)
    expected = adapters_of(stock(tiny, case.config, tmp_path / "stock"))
    run = TrainerRun(tmp_path / "run", tiny, case.config | {"iters": short})
    run.finish()
    run.config = case.config
    campaign = Campaign(run, seed=short)

    campaign.carry_out(["trainer.iteration.end:kill@6"])
    last = run.finish()

    assert_exact(last, "exact")
    assert adapters_of(run.adapter) == expected, campaign.table(f"{name}: {case.words}")
