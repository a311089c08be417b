"""Makes the helpers beside the test folders importable: `from harness_trainer import TrainerRun`."""

import sys
from pathlib import Path

from hypothesis import HealthCheck, settings

sys.path.insert(0, str(Path(__file__).parent))

# How long a machine takes is no property of the code: on a fresh clone the first text that hypothesis draws costs seconds.
settings.register_profile("stoker", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("stoker")
