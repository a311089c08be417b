"""Whether there is room for one more checkpoint, and what may be deleted to make it. Pure."""

from dataclasses import dataclass
from pathlib import Path

# Seconds before a disk that refused a write is tried again.
_FIRST_S = 5
_FACTOR = 3
_LONGEST_S = 3600
_SLACK = 10  # a tenth of what is kept free: logs and rows need a little, and the edge is not walked to and fro


@dataclass(frozen=True, slots=True)
class Expendable:
    """Something that no attempt will resume from, and its size in bytes."""

    path: Path
    size: int


@dataclass(frozen=True, slots=True)
class Room:
    """Room on the volume of a run's checkpoints, in bytes.

    Attributes:
        free: now.
        kept_free: what must stay free (`disk.min_free`).
        checkpoint: the next checkpoint; 0 for a run that writes none, and where its size is not known.
        own: what the trainer removes itself before it writes: an unfinished checkpoint, the older ones of the lineage.
        expendable: what may be deleted to make room, in that order.
    """

    free: int
    kept_free: int
    checkpoint: int = 0
    own: int = 0
    expendable: tuple[Expendable, ...] = ()

    @property
    def wanted(self) -> int:
        """What must be free before an attempt may start."""
        return max(self.kept_free + self.checkpoint - self.own, self.kept_free // _SLACK)

    @property
    def enough(self) -> bool:
        """Whether an attempt may start as things are."""
        return self.free >= self.wanted

    def deletions(self) -> tuple[Expendable, ...] | None:
        """What has to be deleted before an attempt may start, as little as possible; None when all of it is too little."""
        return self._until(self.wanted)

    def returned(self) -> bool:
        """Whether a run that waits for room may go on: a little more than an attempt needs, deletions counted."""
        return self._until(self.wanted + self.kept_free // _SLACK) is not None

    def _until(self, wanted: int) -> tuple[Expendable, ...] | None:
        chosen: list[Expendable] = []
        free = self.free
        for item in self.expendable:
            if free >= wanted:
                break
            chosen.append(item)
            free += item.size
        return tuple(chosen) if free >= wanted else None


def pause_s(times: int) -> float:
    """Seconds before the next look at a disk that had room and yet refused a write, `times` times before (a quota)."""
    return float(min(_LONGEST_S, _FIRST_S * _FACTOR ** min(times, 20)))
