"""The few configurations that hold most values of the matrix; `make exact` proves all of them."""

import pytest
from harness_exact import prove
from harness_matrix import SMALL, Variants

pytestmark = pytest.mark.training


@pytest.fixture(scope="module")
def variants(tmp_path_factory):
    return Variants(tmp_path_factory.mktemp("variants"))


@pytest.mark.parametrize("case", SMALL, ids=lambda case: case.name)
def test_killed_and_undisturbed_runs_end_in_the_bytes_of_the_stock_command(case, variants, tmp_path):
    prove(case, variants, tmp_path)
