"""`stoker doctor --exact` as a person runs it: six real trainings (make exact)."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

STOKER = Path(sys.executable).with_name("stoker")


@pytest.mark.exact
@pytest.mark.timeout(1800)
def test_this_machine_repeats_itself_and_says_so(tmp_path):
    home = tmp_path / "home"
    command = [STOKER, "--home", home, "doctor", "--exact"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)

    print(done.stdout)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "\nexact: two stock runs agree" in done.stdout
    (verdict,) = json.loads((home / "exactness.json").read_bytes())["verdicts"]
    assert verdict["exact"] is True
    for kind in ("full", "lora"):
        shas = verdict["kinds"][kind]
        assert {*shas["stock"], shas["ours"]} == {shas["ours"]}
        assert done.stdout.count(shas["ours"]) == 3
