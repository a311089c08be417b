"""Errors that reach a person.

StokerError                 exit 1   anything that cannot be done, with a hint what to do next
├── UsageError              exit 2   wrong arguments
├── JobError                exit 2   a job file that cannot be accepted
├── DaemonNotRunningError   exit 3   the verb needs the daemon
├── UnknownRunError         exit 4   no run of that name
└── RunFailedError          exit 5   `submit --wait`: the run did not complete
"""


class StokerError(Exception):
    """Something cannot be done.

    Attributes:
        message: what, where and why, in one sentence.
        hint: what to do next; empty when there is nothing to do.
        exit_code: of the command line (DESIGN section 6).
    """

    exit_code = 1

    def __init__(self, message: str, *, hint: str = "", exit_code: int | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        if exit_code is not None:
            self.exit_code = exit_code


class UsageError(StokerError):
    """Arguments that do not fit."""

    exit_code = 2


class JobError(StokerError):
    """A job file that cannot be accepted."""

    exit_code = 2


class DaemonNotRunningError(StokerError):
    """The verb needs a running daemon."""

    exit_code = 3


class UnknownRunError(StokerError):
    """No run matches the reference."""

    exit_code = 4


class RunFailedError(StokerError):
    """A run that was waited for did not complete."""

    exit_code = 5
