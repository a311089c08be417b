"""Entry of the trainer process: `PYTHON /abs/supervisor/trainer/main.py ATTEMPT_DIR`, also in an interpreter where
Stoker is not installed.

Only the standard library is imported at the top, because this file first has to make `stoker` importable: it is run
by path, so its own folder stands at the head of sys.path (where `signals.py` or `state.py` could shadow other
modules) and no `stoker` need be installed.
"""

import faulthandler
import os
import signal
import sys
import types
from pathlib import Path

EXIT_USAGE = 2


def keep_lease_to_ourselves() -> None:
    """Children of the trainer (tokenizer workers, compilers) must not hold the run's lease after the trainer is gone."""
    descriptor = os.environ.get("STOKER_LEASE_FD")
    if descriptor:
        os.set_inheritable(int(descriptor), False)


def dump_stacks_on_request() -> None:
    """SIGUSR1 writes all stacks to the log; whoever suspects a hang asks twice and compares."""
    faulthandler.register(signal.SIGUSR1, file=sys.stderr, all_threads=True)


def make_stoker_importable() -> None:
    """`stoker` as a namespace over the folder that holds `supervisor/`: the repository, or site-packages/stoker of a
    wheel.
    """
    here = Path(__file__).resolve().parent
    sys.path[:] = [entry for entry in sys.path if not entry or Path(entry).resolve() != here]
    namespace = types.ModuleType("stoker")
    namespace.__path__ = [str(here.parent.parent)]
    sys.modules["stoker"] = namespace


def main(arguments: list[str]) -> int:
    """Train as attempts/N says; the exit codes are those of the contract between daemon and trainer (session.py names
    them).
    """
    if len(arguments) != 1:
        print("usage: main.py ATTEMPT_DIR (a folder with config.yaml and launch.json)", file=sys.stderr)
        return EXIT_USAGE
    from stoker.supervisor.trainer.session import run_attempt

    return run_attempt(Path(arguments[0]).resolve())


if __name__ == "__main__":
    keep_lease_to_ourselves()
    dump_stacks_on_request()
    make_stoker_importable()
    sys.exit(main(sys.argv[1:]))
