"""The proof for one configuration: the stock command once, our trainer undisturbed, and our trainer killed; all end in
the same bytes.
"""

import random
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from harness_campaign import Campaign
from harness_matrix import Case, Variants
from harness_trainer import Attempt, TrainerRun, adapters_of, stock

DURATIONS: dict[str, dict[str, float]] = {}  # of the proofs of this session: name -> part -> seconds


@contextmanager
def measured(name: str, part: str) -> Iterator[None]:
    """Note how long a part of a proof took, for the table at the end."""
    began = time.monotonic()
    yield
    DURATIONS.setdefault(name, {})[part] = time.monotonic() - began


def table() -> list[str]:
    """The durations of all proofs, for people."""
    parts = list(dict.fromkeys(part for row in DURATIONS.values() for part in row))
    lines = [f"{'seconds':<28}" + "".join(f"{part:>10}" for part in (*parts, "all"))]
    for name, row in DURATIONS.items():
        figures = [f"{row[part]:>10.1f}" if part in row else f"{'':>10}" for part in parts]
        lines.append(f"{name:<28}" + "".join(figures) + f"{sum(row.values()):>10.1f}")
    total = sum(sum(row.values()) for row in DURATIONS.values())
    return [*lines, f"{'':<28}" + f"{total:>{10 * (len(parts) + 1)}.1f}"]


def two_kills(case: Case) -> list[str]:
    """One inside the checkpoint writer, then one elsewhere and late enough that there is a checkpoint to resume from;
    which ones follows from the case's name.
    """
    source = random.Random(case.name)
    rare = case.values["accumulation"] == "5"  # the first step is complete at iteration 5, and committed at 8
    elsewhere = [f"trainer.iteration.end:kill@{13 if rare else source.randint(9, 12)}"]
    if case.values["validation"] == "2":
        elsewhere.append("trainer.validate.batch:kill@5")  # in the third validation, iteration 14 or later
    if saves := {"10": 1, "7": 2}.get(case.values["save"]) if not rare else None:
        elsewhere += [f"adapter.save.before:kill@{saves}", f"adapter.rename.before:kill@{2 * saves}"]
        elsewhere.append(f"adapter.rename.after:kill@{2 * saves}")
    return ["writer", source.choice(elsewhere)]


def assert_exact(attempt: Attempt, resume: str) -> None:
    """What the trainer says of itself: proved, and no reason why the result need not be the stock command's."""
    start = attempt.of_kind("start")[0]
    assert (start["resume"], start["label_reasons"], start["proved"]) == (resume, [], True), start


def prove(case: Case, variants: Variants, folder: Path, *, python: str = sys.executable, title: str = "") -> Campaign:
    """Hold an undisturbed and a killed run against the stock command; returns the campaign of kills."""
    title = title or case.name
    with measured(title, "model"):
        tiny = variants(case)
    with measured(title, "stock"):
        expected = adapters_of(stock(tiny, case.config, folder / "stock", python))

    with measured(title, "unkilled"):
        whole = TrainerRun(folder / "whole", tiny, case.config, python=python)
        attempt = whole.finish()
    assert_exact(attempt, "fresh")
    assert adapters_of(whole.adapter) == expected, f"undisturbed: {case.words}"
    assert attempt.of_kind("final")[0]["changed"], "nothing was trained, so equal bytes say nothing"

    with measured(title, "killed"):
        run = TrainerRun(folder / "killed", tiny, case.config, keep=2, python=python)
        campaign = Campaign(run, seed=sum(map(ord, case.name)))
        campaign.carry_out(two_kills(case))
        last = run.finish()
    assert_exact(last, "exact")
    assert adapters_of(run.adapter) == expected, campaign.table(f"killed: {case.words}")
    return campaign
