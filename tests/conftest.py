"""Makes the helpers beside the test folders importable: `from harness_trainer import TrainerRun`."""

import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

sys.path.insert(0, str(Path(__file__).parent))

# How long a machine takes is no property of the code: on a fresh clone the first text that hypothesis draws costs seconds.
settings.register_profile("stoker", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("stoker")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items):
    """With two workers one does all the training: two at once would compile the same kernels into the one warm cache,
    and on two cores take as long.
    """
    for item in items:
        if item.get_closest_marker("training") or "acceptance" in item.path.parts:
            item.add_marker(pytest.mark.xdist_group("training"))
