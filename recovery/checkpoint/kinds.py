"""Names of tensors: the block that one belongs to, and its kind, which is the name without the numbers."""

import re
from collections import defaultdict
from collections.abc import Collection

_NUMBER = re.compile(r"(?<=\.)\d+(?=\.)")


def kind(name: str) -> str:
    """`model.layers.3.mlp.up_proj.weight` and its like in every other block are all `model.layers.N.mlp.up_proj.weight`."""
    return _NUMBER.sub("N", name)


def block(name: str) -> tuple[str, int] | None:
    """`("model.layers.", 3)`; None for a tensor outside of the blocks."""
    number = _NUMBER.search(name)
    return (name[: number.start()], int(number[0])) if number else None


def changed_by_loader(differing: Collection[str], compared: Collection[str]) -> frozenset[str]:
    """Those of the differing tensors that differ because the model's loader changes them, as far as names can tell.

    A loader (mlx-lm's `sanitize`) treats a kind alike in every block, and it leaves most kinds alone: where nearly
    everything differs, it is another model.
    """
    members: dict[str, list[str]] = defaultdict(list)
    for name in compared:
        members[kind(name)].append(name)
    whole = [names for names in members.values() if all(name in differing for name in names)]
    if 2 * len(whole) > len(members):
        return frozenset()
    return frozenset(name for names in whole for name in names)
