"""What a look at a checkpoint or an adapter has found so far."""

from collections.abc import Collection
from dataclasses import dataclass, field

from stoker.recovery.checkpoint.safetensors import Tensor

# More of one kind than this help nobody.
MOST_NAMED = 3


@dataclass(slots=True)
class Findings:
    """Filled by one check after the other.

    Attributes:
        problems: one sentence each, the file named first.
        notes: things worth knowing that are no problem.
        names: file name -> the tensors in its header.
        sha256: file name -> hash.
        compared: tensors of one file that were held against the base model.
    """

    problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    names: dict[str, tuple[Tensor, ...]] = field(default_factory=dict)
    sha256: dict[str, str] = field(default_factory=dict)
    compared: int = 0


def first_few(names: Collection[str]) -> str:
    """`a`, `a and b`, or `a, b, c and 5 more`, sorted."""
    shown = sorted(names)[:MOST_NAMED]
    if more := len(names) - len(shown):
        return f"{', '.join(shown)} and {more} more"
    return " and ".join([", ".join(shown[:-1]), shown[-1]] if len(shown) > 1 else shown)
