"""`stoker runs`: every run, ended ones too, newest first."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from stoker.supervisor.review import words
from stoker.supervisor.review.columns import Column, table
from stoker.supervisor.review.format import DASH, clean, clock, duration, percent, plural, shorten, wall
from stoker.supervisor.states import ENDED

Run = Mapping[str, Any]
_WHY = 90  # columns of a reason; the whole of it is in `show`


def render(
    document: Mapping[str, Any], *, now: float, width: int | None = 80, colour: bool = False, limit: int | None = None
) -> str:
    """Return the table for the reader's `runs()`, at most `limit` runs; says how many it leaves out."""
    runs: Sequence[Run] = document.get("runs") or ()
    if not runs:
        return "no runs; start one: stoker submit FILE"
    shown = runs if limit is None else runs[:limit]
    lines = table(_columns(now), shown, width=width, colour=colour)
    if hidden := len(runs) - len(shown):
        lines.append(f"... {plural(hidden, 'older run')}; all of them: stoker runs --all")
    return "\n".join(lines)


def _columns(now: float) -> list[Column]:
    return [
        Column("run", lambda run: clean(run.get("run_id") or DASH), shrink=24),
        Column("name", _name, shrink=10, drop=6),
        Column("state", lambda run: str(run.get("state") or DASH), style=lambda run: words.colour(run.get("state"))),
        Column("started", lambda run: clock(run.get("started_at"), now), drop=4),  # the id says it roughly
        Column("took", lambda run: _took(run, now), right=True, drop=3),
        Column("attempts", lambda run: str(run.get("attempt") or DASH), default="1", right=True, drop=5),
        Column("iteration", words.place, right=True, drop=1),
        Column("loss", words.loss, right=True),
        Column("ETTR", lambda run: percent(run.get("ettr")), default="100%", right=True, drop=7),
        Column("model", lambda run: clean(run.get("model") or DASH).rsplit("/", 1)[-1], shrink=8, drop=8),
        Column("why", lambda run: shorten(words.why(run), _WHY), shrink=16, drop=2),
    ]


def _name(run: Run) -> str:
    """The name, only where the id does not begin with it."""
    name, run_id = clean(run.get("name") or ""), clean(run.get("run_id") or "")
    slug = re.sub(r"[^a-z0-9]+", "_", name.lower()).strip("_")
    return "" if re.sub(r"[^a-z0-9]+", "_", run_id.lower()).startswith(f"{slug}_") else name


def _took(run: Run, now: float) -> str:
    """How long the run has lasted, waiting included."""
    started, ended = wall(run.get("started_at")), wall(run.get("ended_at"))
    if started is None or (ended is None and run.get("state") in ENDED):
        return DASH
    return duration(max(0.0, (now if ended is None else ended) - started))
