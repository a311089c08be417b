"""On a Mac an attempt is called exact once `stoker doctor --exact` has said so. These tests compare the bytes themselves,
so they hand in its verdict, and what they expect of labels is the same everywhere.
"""

import functools
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from stoker.supervisor.trainer.machine import needs_verdict, this_system

MAIN = Path(__file__).resolve().parents[1] / "supervisor" / "trainer" / "main.py"
_ASK = f"""
import json, runpy
runpy.run_path({str(MAIN)!r})["make_stoker_importable"]()
from stoker.supervisor.trainer.machine import Machine
from stoker.supervisor.trainer.memory import device_name
from stoker.supervisor.trainer.versions import versions
print(json.dumps(Machine.here(device_name(), versions()).as_json()))
"""


@functools.cache
def machine_of(python: str = sys.executable) -> dict[str, Any]:
    """The machine as a trainer in that interpreter sees it."""
    done = subprocess.run([python, "-c", _ASK], capture_output=True, text=True, check=True, timeout=120)
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def verdicts(python: str = sys.executable) -> list[dict[str, Any]]:
    """What exactness.json must say so that labels are those of Linux; nothing there."""
    if not needs_verdict(this_system()):
        return []
    return [{"machine": machine_of(python), "exact": True, "at": "2026-11-22T12:00:00Z"}]
