"""Clocks. Intervals never come from the wall clock, which people and wake-ups set."""

import sys
import time
from datetime import UTC, datetime
from typing import Protocol


class Clock(Protocol):
    """What the daemon needs of time; tests pass their own.

    Attributes of a moment: `wall` for display and for rows that outlive a boot, `awake` for intervals of work
    (stops while the machine sleeps), `continuous` for how long something has really been (goes on in sleep).
    """

    def wall(self) -> float:
        """Seconds since the epoch."""
        ...

    def awake(self) -> float:
        """Seconds, not counting sleep."""
        ...

    def continuous(self) -> float:
        """Seconds, counting sleep."""
        ...


class SystemClock:
    """The machine's clocks.

    macOS: CLOCK_UPTIME_RAW stops in sleep, CLOCK_MONOTONIC_RAW goes on; Linux: CLOCK_MONOTONIC and CLOCK_BOOTTIME.
    """

    if sys.platform == "darwin":
        _AWAKE = time.CLOCK_UPTIME_RAW
        _CONTINUOUS = time.CLOCK_MONOTONIC_RAW
    else:
        _AWAKE = time.CLOCK_MONOTONIC
        _CONTINUOUS = time.CLOCK_BOOTTIME

    def wall(self) -> float:
        """See Clock."""
        return time.time()

    def awake(self) -> float:
        """See Clock."""
        return time.clock_gettime(self._AWAKE)

    def continuous(self) -> float:
        """See Clock."""
        return time.clock_gettime(self._CONTINUOUS)


def iso(wall: float | None) -> str | None:
    """Return `2026-02-13T14:30:00Z` for seconds since the epoch; None stays None."""
    if wall is None:
        return None
    return datetime.fromtimestamp(wall, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
