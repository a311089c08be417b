"""What the numbers of a run say: not finite, frozen, diverged, spiked, slower and slower. Pure functions of reports.

Levels say little (a new vocabulary starts at 14, an untrained head at 140), so everything is compared with the run's own
start and its own recent past, and a verdict waits for confirming reports: one bad report is an outlier batch.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import median

from stoker.recovery.evidence import Report

CONFIRM = 3  # reports that must agree
RISE = 1.5  # times the best (or the start) is a rise ...
RISE_NATS = 1.0  # ... if it is also this much in nats: small losses are noisy
SPIKE = 2.0  # times the recent median
SPIKE_NATS = 2.0
FROZEN = 5  # equal losses in a row, train and validation together
FROZEN_FLOOR = 0.5  # below that a memorised data set may well stand still
ABOVE_CHANCE = 15.0  # nats: more than any vocabulary's uniform guess, ln(150,000) = 12
SLOW = 0.5  # of the earlier throughput
SWAP_GB = 1.0  # a smaller growth pushes no machine into swapping


@dataclass(frozen=True, slots=True)
class Trouble:
    """Something wrong in a series.

    Attributes:
        kind: nonfinite, frozen, dead (frozen from before the first update), diverged, spiked, slowed, swapping.
        report: the first bad one.
        text: the numbers, for a person.
    """

    kind: str
    report: Report
    text: str


def current_run(reports: Sequence[Report]) -> tuple[Report, ...]:
    """Return the reports since the iterations last started over: a log may hold several launches."""
    start = 0
    for i in range(1, len(reports)):
        if reports[i].iteration < reports[i - 1].iteration:
            start = i
    return tuple(reports[start:])


def nonfinite(reports: Sequence[Report]) -> Trouble | None:
    """Return the first train report whose loss is nan or inf. Validation says nothing: with val_batches 0 it is nan."""
    train = _train(reports)
    for i, (report, loss) in enumerate(train):
        if math.isfinite(loss):
            continue
        before = (
            f"; last finite {train[i - 1][1]:.3f} at iteration {train[i - 1][0].iteration}"
            if i
            else " from the first report on"
        )
        tokens = "; no target tokens were trained on" if report.trained_tokens == 0 else ""
        return Trouble("nonfinite", report, f"train loss {loss} at iteration {report.iteration}{before}{tokens}")
    return None


def frozen(reports: Sequence[Report]) -> Trouble | None:
    """Return the stretch of equal losses at the end: the model answers the same whatever it is shown."""
    losses = [(r, loss) for r in reports for loss in (r.val_loss, r.train_loss) if loss is not None]
    if not losses or not losses[-1][1] > FROZEN_FLOOR:
        return None
    last = losses[-1][1]
    start = len(losses)
    while start and abs(losses[start - 1][1] - last) < 5e-4:
        start -= 1
    count = len(losses) - start
    if count < FROZEN:
        return None
    first = losses[start][0]
    dead = start == 0 and first.val_loss is not None and first.iteration <= 1
    return Trouble("dead" if dead else "frozen", first, f"loss stands at {last:.3f} for the last {count} reports")


def diverged(reports: Sequence[Report]) -> Trouble | None:
    """Return where the loss left for good: above the start at once, far above its best, or never better than chance."""
    train = [(r, loss) for r, loss in _train(reports) if math.isfinite(loss)]
    if len(train) < CONFIRM:
        return None
    return _above_start(reports, train) or _above_best(train) or _above_chance(train)


def spiked(reports: Sequence[Report]) -> Trouble | None:
    """Return the first single report far above its neighbours from which the loss came back."""
    train = [(r, loss) for r, loss in _train(reports) if math.isfinite(loss)]
    for i in range(2, len(train) - 1):
        base = median(loss for _, loss in train[max(0, i - 5) : i])
        report, loss = train[i]
        if loss <= SPIKE * base or loss - base < SPIKE_NATS:
            continue
        back = min(later for _, later in train[i + 1 :])
        if back < 1.3 * base:
            text = (
                f"train loss {loss:.3f} at iteration {report.iteration}, median before {base:.3f}, back at {back:.3f}"
            )
            return Trouble("spiked", report, text)
    return None


def slowed(reports: Sequence[Report]) -> Trouble | None:
    """Return where throughput fell for good: heat, swap, another load, low-power mode."""
    rates = [(r, r.tokens_per_second) for r in reports if r.tokens_per_second]
    if len(rates) >= 2 * CONFIRM:
        usual = median(rate for _, rate in rates[:-CONFIRM])
        if all(rate < SLOW * usual for _, rate in rates[-CONFIRM:]):
            report = rates[-CONFIRM][0]
            return Trouble(
                "slowed", report, f"{rates[-1][1]:.0f} tokens/s, {usual:.0f} before iteration {report.iteration}"
            )
    tail = rates[-4:]
    if len(tail) == 4 and all(b < a for (_, a), (_, b) in pairwise(tail)):
        first, last = tail[0][1], tail[-1][1]
        if last < SLOW * first:
            return Trouble("slowed", tail[1][0], f"tokens/s fell from {first:.0f} to {last:.0f} in four reports")
    return None


def swapping(reports: Sequence[Report]) -> Trouble | None:
    """Return where peak memory grew report by report while throughput fell: the road to a kill for memory.

    Growth alone says nothing: the peak is a running maximum, and the first long batches of any run raise it.
    """
    tail = [(r, r.peak_memory) for r in reports if r.peak_memory][-4:]
    if len(tail) < CONFIRM or not all(b > a for (_, a), (_, b) in pairwise(tail)):
        return None
    first, last = tail[0][1], tail[-1][1]
    if last - first < SWAP_GB or slowed(reports) is None:
        return None
    return Trouble(
        "swapping", tail[0][0], f"peak memory grew from {first:.1f} to {last:.1f} GB over the last {len(tail)} reports"
    )


def _train(reports: Sequence[Report]) -> list[tuple[Report, float]]:
    return [(r, r.train_loss) for r in reports if r.train_loss is not None]


def _above_start(reports: Sequence[Report], train: list[tuple[Report, float]]) -> Trouble | None:
    """A run that begins with good weights and loses them at once: the first validation is from before any update."""
    vals = [(r, r.val_loss) for r in reports if r.val_loss is not None and math.isfinite(r.val_loss)]
    if not vals or vals[0][0].iteration > 1:
        return None
    start = vals[0][1]
    early = median(loss for _, loss in train[:CONFIRM])
    confirmed = len(vals) > 1 and vals[-1][1] >= 1.15 * start  # the same examples, measured again
    if len(vals) > 1 and not confirmed:
        return None
    rise, nats = (1.25, RISE_NATS / 2) if confirmed else (RISE, RISE_NATS)
    if early < rise * start or early - start < nats or min(loss for _, loss in train) < 1.1 * start:
        return None
    text = f"train loss {early:.3f} in the first reports, {start:.3f} before the first update"
    return Trouble("diverged", train[0][0], text)


def _above_best(train: list[tuple[Report, float]]) -> Trouble | None:
    smooth = [median(loss for _, loss in train[i : i + CONFIRM]) for i in range(len(train) - CONFIRM + 1)]
    best = min(smooth)
    limit = max(RISE * best, best + RISE_NATS)
    tail = len(train)
    while tail and train[tail - 1][1] > limit:
        tail -= 1
    if len(train) - tail < CONFIRM or tail == 0:
        return None
    return Trouble(
        "diverged", train[tail][0], f"train loss {train[-1][1]:.3f} and not coming back, best was {best:.3f}"
    )


def _above_chance(train: list[tuple[Report, float]]) -> Trouble | None:
    if len(train) < 2 * CONFIRM:
        return None
    part = len(train) // 3
    first, last = (median(loss for _, loss in piece) for piece in (train[:part], train[-part:]))
    if min(loss for _, loss in train) < ABOVE_CHANCE or last < 0.95 * first:
        return None
    return Trouble("diverged", train[0][0], f"train loss {last:.1f}, worse than guessing, and not falling")
