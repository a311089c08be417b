"""The demonstration is the acceptance test: everything real, through the installed command."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

STOKER = Path(sys.executable).with_name("stoker")


@pytest.mark.training
@pytest.mark.timeout(900)
def test_the_demonstration_keeps_all_its_claims(tmp_path):
    done = subprocess.run(
        [STOKER, "demo", "--dir", tmp_path / "demo"],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "STOKER_HOME": str(tmp_path / "unused")},
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "sha256 equal to an uninterrupted stock run: yes" in done.stdout
    assert "  NO " not in done.stdout
    for cause in ("oom (simulated)", "killed", "nan_loss"):
        assert cause in done.stdout
    assert "quarantined" in done.stdout
