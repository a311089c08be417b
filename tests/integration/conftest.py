"""Fixtures that several integration tests share."""

import pytest
from harness_daemon import bench_in


@pytest.fixture
def bench(tmp_path):
    """A home with real daemons; fails when one of them logged an exception, and leaves no process behind."""
    with bench_in(tmp_path) as made:
        yield made
