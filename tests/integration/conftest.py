"""Fixtures that several integration tests share."""

import pytest
from harness_daemon import bench_in
from harness_preflight import judge, place

__all__ = ["bench", "judge", "place"]  # judge and place are fixtures too


@pytest.fixture
def bench(tmp_path):
    """A home with real daemons; fails when one of them logged an exception, and leaves no process behind."""
    with bench_in(tmp_path) as made:
        yield made
