"""Fixtures of the long proofs, and the table of what each of them took."""

import pytest
from harness_exact import DURATIONS, table
from harness_matrix import Variants
from harness_training import works_in


@pytest.fixture(scope="session")
def variants(tmp_path_factory):
    """Tiny models and data sets, each made once for all proofs."""
    return Variants(tmp_path_factory.mktemp("variants"))


@pytest.fixture
def works(tmp_path):
    """A home with real daemons whose trainers are real mlx-lm training."""
    with works_in(tmp_path) as made:
        yield made


def pytest_terminal_summary(terminalreporter):
    """Last of all, so that it is seen."""
    if DURATIONS:
        terminalreporter.section("exactness proofs")
        terminalreporter.write_line("\n".join(table()))
