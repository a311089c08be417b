"""SIGTERM: stop as soon as nothing would be lost."""

import os
import signal
import sys
from collections.abc import Callable
from types import FrameType

from stoker.supervisor.trainer.outcomes import EXIT_STOPPED


class StopRequest:
    """Remembers that SIGTERM came. A second one changes nothing.

    While the model is loading there is nothing to commit and no safe place to come back to (a load is one long call
    into C++), so the process ends at once; from `defer` on the training loop looks at `requested` at the end of each
    iteration.
    """

    def __init__(self, before_exit: Callable[[], None]) -> None:
        self.requested = False
        self._deferred = False
        self._before_exit = before_exit
        signal.signal(signal.SIGTERM, self._handle)

    def defer(self) -> None:
        """From now on the request is honoured by the loop."""
        self._deferred = True

    def _handle(self, _number: int, _frame: FrameType | None) -> None:
        if self.requested:
            return
        self.requested = True
        if not self._deferred:
            self._before_exit()
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(EXIT_STOPPED)
