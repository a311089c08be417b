"""The two ways in which a healthy trainer process ends before its last iteration: a guard stopped it, or someone
asked it to stop.
"""

from dataclasses import dataclass

EXIT_FINISHED = 0
EXIT_GUARD = 70  # a guard stopped the run: not a finite number, no target tokens, changed inputs, full disk
EXIT_STOPPED = 75  # stopped on request, everything that was completed is committed


@dataclass(frozen=True, slots=True)
class LastFinite:
    """The last iteration whose train loss was a finite number."""

    iteration: int
    train_loss: float


class Fault(Exception):  # noqa: N818 - the design's word for what a guard has found
    """A guard found that going on would do harm; nothing poisoned was written.

    Attributes:
        cause: a cause of DESIGN's closed list, e.g. "nan_loss".
        what: what was seen, in one clause, e.g. "train loss is nan".
        iteration: the iteration in which it was seen; 0 before the first.
        last_finite: the last good train loss, when there was one.
        advice: what a person can do about it.
        needs: bytes that must be free before going on makes sense; of a full disk.
    """

    def __init__(
        self,
        cause: str,
        what: str,
        *,
        iteration: int = 0,
        last_finite: LastFinite | None = None,
        advice: str = "",
        needs: int | None = None,
    ) -> None:
        super().__init__(what)
        self.cause = cause
        self.what = what
        self.iteration = iteration
        self.last_finite = last_finite
        self.advice = advice
        self.needs = needs

    @property
    def line(self) -> str:
        """The one line for stderr."""
        where = f" at iteration {self.iteration}" if self.iteration else ""
        last = self.last_finite
        before = f" (last finite report: {last.train_loss:.4g} at iteration {last.iteration})" if last else ""
        advice = f". {self.advice}" if self.advice else ""
        return f"stoker: {self.cause}: {self.what}{where}{before}{advice}"


class Stopped(BaseException):
    """SIGTERM was honoured. Not an Exception: no library between the loop and the entry may swallow it."""
