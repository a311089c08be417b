"""All verbs, by panel of the help."""

from collections.abc import Callable
from typing import Any

from stoker.supervisor.cli.cancel import cancel
from stoker.supervisor.cli.check import check
from stoker.supervisor.cli.demo import demo
from stoker.supervisor.cli.diagnose import diagnose
from stoker.supervisor.cli.doctor import doctor
from stoker.supervisor.cli.edit import edit
from stoker.supervisor.cli.explain import explain
from stoker.supervisor.cli.install import install
from stoker.supervisor.cli.logs import logs
from stoker.supervisor.cli.pause import pause
from stoker.supervisor.cli.resume import release, resume
from stoker.supervisor.cli.retry import retry
from stoker.supervisor.cli.run import run
from stoker.supervisor.cli.runs import runs
from stoker.supervisor.cli.show import show
from stoker.supervisor.cli.status import status
from stoker.supervisor.cli.submit import submit
from stoker.supervisor.cli.uninstall import uninstall
from stoker.supervisor.cli.verify import verify

PANELS: dict[str, tuple[Callable[..., Any], ...]] = {
    "Jobs": (submit, check, status, runs, show, explain, logs),
    "Acting on a run": (pause, resume, release, cancel, retry, edit),
    "Files": (diagnose, verify),
    "The daemon and this machine": (run, install, uninstall, doctor, demo),
}
