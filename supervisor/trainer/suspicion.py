"""A train loss that jumps: perhaps the first sign of a run going wrong, long before it is certain.

Nothing is stopped because of it. It decides only which older checkpoint is kept: the newest from before the jump, so
that a rewind still finds one when the run turns out to be spoiled. Standard library only.
"""

import math

_MEMORY = 0.98  # of the running mean: the last fifty iterations or so
_WARM_UP = 20  # iterations before a jump can be told from a start
_DEVIATIONS = 6.0
_NATS = 0.5  # the least jump: small losses are noisy


class Suspicion:
    """Follows the train loss of each iteration; `onset` is the iteration of the last jump, or None."""

    def __init__(self, *known: int | None) -> None:
        self.onset: int | None = max((iteration for iteration in known if iteration is not None), default=None)
        self._mean = self._square = 0.0
        self._seen = 0
        self._up = False

    def see(self, iteration: int, loss: float) -> None:
        """Take one finite loss. A jump counts once, until the loss has come back down."""
        if self._seen >= _WARM_UP and loss > self._limit():
            if not self._up:
                self.onset = iteration
            self._up = True
            return  # what is suspected must not become the measure of what is normal
        self._up = False
        self._seen += 1
        weight = max(1 - _MEMORY, 1 / self._seen)
        self._mean += weight * (loss - self._mean)
        self._square += weight * (loss * loss - self._square)

    def _limit(self) -> float:
        deviation = math.sqrt(max(0.0, self._square - self._mean * self._mean))
        return self._mean + max(_NATS, _DEVIATIONS * deviation)
