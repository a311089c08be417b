"""Fixtures that several integration tests share."""

import pytest
from harness_daemon import bench_in
from harness_preflight import judge, place
from harness_training import works_in

__all__ = ["bench", "judge", "place"]  # judge and place are fixtures too


@pytest.fixture
def bench(tmp_path):
    """A home with real daemons; fails when one of them logged an exception, and leaves no process behind."""
    with bench_in(tmp_path) as made:
        yield made


@pytest.fixture
def works(tmp_path):
    """A bench whose trainers are real mlx-lm training."""
    with works_in(tmp_path) as made:
        yield made
