"""When the next checkpoint is due."""

from collections.abc import Callable


class Cadence:
    """Every so many iterations, or when so many seconds have passed since the last checkpoint, whichever comes first."""

    def __init__(self, iterations: int | None, seconds: float | None, clock: Callable[[], float]) -> None:
        self._iterations, self._seconds, self._clock = iterations, seconds, clock
        self._since = clock()

    def is_due(self, iteration: int) -> bool:
        """Whether to commit after this iteration; multiples, so that resumed attempts commit at the same iterations."""
        by_count = bool(self._iterations) and iteration % (self._iterations or 1) == 0
        by_time = bool(self._seconds) and self._clock() - self._since >= (self._seconds or 0.0)
        return by_count or by_time

    def restart(self) -> None:
        """A checkpoint was just handed over."""
        self._since = self._clock()
