"""How long training runs here between two failures that cost work: what Young's formula wants to know. Pure."""

from collections.abc import Iterable
from dataclasses import dataclass

# A machine about which nothing is known is taken to fail once a day. One failure in two days of training and one in
# none then differ by a factor that the evidence supports, and no history can divide by zero.
PRIOR_S = 24 * 3600.0

# Ends that no checkpoint makes cheaper: nobody's failure, or one that the same job meets again at once.
_NO_FAILURE = frozenset({
    "healthy", "interrupted", "config_error", "data_error", "dependency_error", "model_load_error", "permission_denied",
    "top_layers_only", "checkpoint_mismatch", "disk_full",
})  # fmt: skip


@dataclass(frozen=True, slots=True)
class Spell:
    """One attempt that has ended.

    Attributes:
        seconds: it trained for so long.
        iterations: it completed so many; without any it had nothing to lose.
        cause: of its diagnosis; None when it succeeded, or a person stopped it.
        simulated: a drill pretended the trouble.
    """

    seconds: float
    iterations: int
    cause: str | None
    simulated: bool

    @property
    def failed(self) -> bool:
        """Whether it ended in trouble of a kind that more checkpoints would have made cheaper."""
        return self.cause is not None and self.cause not in _NO_FAILURE and not self.simulated and self.iterations > 0


def time_between_failures(spells: Iterable[Spell]) -> float:
    """Return the seconds of training from one failure to the next: one failure in a day, and what was seen since."""
    trained, failures = PRIOR_S, 1
    for spell in spells:
        trained += spell.seconds
        failures += spell.failed
    return trained / failures
