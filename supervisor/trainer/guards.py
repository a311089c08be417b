"""What must hold before training goes on or anything is written: finite numbers, and something to learn from."""

import math
from collections.abc import Callable, Sequence

from stoker.supervisor.trainer.outcomes import Fault, LastFinite
from stoker.supervisor.trainer.snapshot import HostTensor, not_finite

_NAMED = 3  # so many names or numbers are printed, the rest is counted


class Guard:
    """Remembers the last finite train loss and stops the run at the first number that is not."""

    def __init__(self, last_finite: LastFinite | None) -> None:
        self.last_finite = last_finite

    def check_loss(
        self, iteration: int, loss: float, count: Callable[[], int], examples: Sequence[int], where: Callable[[], str]
    ) -> None:
        """Stop at a loss that is not finite; of a batch without target tokens it is 0/0, and that is said.

        `count` (of target tokens) and `where` are only asked then: each costs time that a healthy iteration keeps.
        """
        if math.isfinite(loss):
            self.last_finite = LastFinite(iteration, loss)
            return
        if count() == 0:
            lines = listed([index + 1 for index in examples])
            raise Fault(
                "data_error",
                f"the batch has no target tokens ({where()}, examples {lines})",
                iteration=iteration,
                last_finite=self.last_finite,
                advice="Prompts fill max_seq_length: shorten them, raise max_seq_length, or drop those lines",
            )
        raise self._fault(iteration, f"train loss is {loss}")

    def check_parameters(self, iteration: int, parameters: tuple[HostTensor, ...]) -> None:
        """Stop when a trainable parameter holds a number that is not finite; no mlx call, the writer's thread asks."""
        bad = not_finite(parameters)
        if bad:
            raise self._fault(iteration, f"{len(bad)} of {len(parameters)} parameters are not finite ({listed(bad)})")

    def _fault(self, iteration: int, what: str) -> Fault:
        return Fault("nan_loss", what, iteration=iteration, last_finite=self.last_finite)


def listed(items: Sequence[object]) -> str:
    """The first few of many, with how many more there are."""
    shown = ", ".join(map(str, items[:_NAMED]))
    return shown if len(items) <= _NAMED else f"{shown} and {len(items) - _NAMED} more"
