"""Makes the helpers beside the test folders importable: `from harness_trainer import TrainerRun`."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
