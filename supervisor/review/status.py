"""`stoker status`: what is running, what waits and for what, what ended lately."""

import textwrap
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from stoker.supervisor.review import words
from stoker.supervisor.review.columns import Column, paint, table
from stoker.supervisor.review.format import (
    DASH,
    age,
    bar,
    clean,
    count,
    duration,
    figure,
    finite,
    fraction,
    percent,
    sparkline,
    wall,
)
from stoker.supervisor.states import ENDED

Run = Mapping[str, Any]
_ORDER = (
    *("running", "stalled", "stopping", "starting", "waiting", "held", "queued", "blocked"),
    *("failed", "completed", "cancelled"),
)
_BAR = 10


def render(
    document: Mapping[str, Any],
    *,
    now: float,
    width: int | None = 80,
    colour: bool = False,
    losses: Mapping[str, Sequence[object]] | None = None,
) -> str:
    """Return the status page for the reader's `status()`.

    `width` None = as wide as the values (output to a pipe); `losses` = the course of the loss by run id.
    """
    runs = sorted(document.get("runs") or (), key=lambda run: _place(run.get("state")))
    called = names(runs)
    blocks = [header(document, colour=colour)]
    if runs:
        columns = _columns(called, losses or {})
        blocks.append("\n".join(table(columns, runs, width=width, colour=colour)))
    notes = [_note(run, called(run), now, width, colour) for run in runs]
    return "\n\n".join([*blocks, *(["\n".join(said)] if (said := [note for note in notes if note]) else [])])


def header(document: Mapping[str, Any], *, colour: bool = False) -> str:
    """Return whether the daemon runs and how many runs are in which state; below it what to do when it does not run."""
    daemon = document.get("daemon") or {}
    runs = document.get("runs") or ()
    tally: dict[str, int] = {}
    for run in runs:
        state = str(run.get("state") or "unknown")
        tally[state] = tally.get(state, 0) + 1
    counts = ", ".join(f"{tally[state]} {state}" for state in sorted(tally, key=_place))
    if daemon.get("running"):
        pid = f" (pid {daemon['pid']})" if daemon.get("pid") else ""
        return f"{paint('●', 'green', colour)} daemon running{pid} · {counts or 'no runs; try: stoker submit FILE'}"
    down = f"{paint('○ daemon not running', 'red', colour)} · {counts or 'no runs'}"
    alive = any(run.get("state") in words.TRAINING for run in runs)
    effect = "Trainers go on by themselves; nothing new starts or recovers." if alive else "Nothing starts."
    return f"{down}\n  {effect}\n  Start it: stoker run    or as a service: stoker install"


def names(runs: Sequence[Run]) -> Callable[[Run], str]:
    """Return how to call these runs: by the name where only one has it, else by the id."""
    tally: dict[object, int] = {}
    for run in runs:
        tally[run.get("name")] = tally.get(run.get("name"), 0) + 1

    def called(run: Run) -> str:
        return clean((run.get("name") if tally[run.get("name")] == 1 else "") or run.get("run_id") or DASH)

    return called


def progress_line(run: Run) -> str:
    """Return one line about a run under way, for `submit --follow` and the demo: no colour, about 80 columns."""
    done = fraction(run.get("iteration"), run.get("iters"))
    speed, left = finite(run.get("tokens_per_second")), words.eta(run)
    state = str(run.get("state") or "")
    parts = [
        clean(run.get("name") or run.get("run_id") or ""),
        state,
        f"attempt {run['attempt']}" if (run.get("attempt") or 0) > 1 else "",
        f"{bar(done, _BAR)} {words.place(run)}" if done is not None else "",
        f"loss {words.loss(run)}" if run.get("loss") is not None else "",
        f"{count(speed)} tok/s" if speed and state in words.TRAINING else "",
        f"eta {left}" if left != DASH else "",
        words.why(run) if state != "running" else "",
    ]
    return "  ".join(part for part in parts if part)


def _columns(called: Callable[[Run], str], losses: Mapping[str, Sequence[object]]) -> list[Column]:
    return [
        Column("run", called, shrink=16),
        Column("state", lambda run: str(run.get("state") or DASH), style=lambda run: words.colour(run.get("state"))),
        Column("attempt", lambda run: str(run.get("attempt") or ""), default="1", right=True),
        Column("", _bar, drop=5),
        Column("iteration", words.place, right=True),
        Column("eta", words.eta, right=True),
        Column("loss", words.loss, right=True),
        Column("", lambda run: sparkline(losses.get(str(run.get("run_id")), ())), drop=6),
        Column("tok/s", lambda run: _live(run, "tokens_per_second", count), right=True, drop=7),
        Column("peak GB", lambda run: _live(run, "peak_memory", figure), right=True, drop=8),
        Column("ETTR", lambda run: percent(run.get("ettr")), default="100%", right=True, drop=9),
        Column("priority", lambda run: str(run.get("priority") or 0), default="0", right=True, drop=10),
    ]


def _place(state: object) -> int:
    return _ORDER.index(str(state)) if state in _ORDER else len(_ORDER)


def _bar(run: Run) -> str:
    done = fraction(run.get("iteration"), run.get("iters"))
    return bar(done, _BAR) if done and run.get("state") not in ENDED else ""


def _live(run: Run, key: str, shown: Callable[[object], str]) -> str:
    """A number of the trainer, only while there is one: an old speed misleads."""
    return shown(run.get(key)) if run.get("state") in words.TRAINING else DASH


def _note(run: Run, called: str, now: float, width: int | None, colour: bool) -> str:
    """What the table cannot say: why and for how long, what would be lost, and the commands to copy, unbroken."""
    state = str(run.get("state"))
    facts = [words.why(run), words.doing(run), words.until(run, now), words.at_risk(run)]
    if state in words.TRAINING and run.get("last_checkpoint"):
        facts.append(f"last checkpoint {clean(run['last_checkpoint'])}")
    text, lasting = "; ".join(fact for fact in facts if fact), _lasting(run, now)
    line = f"{called} {state}{lasting}" + (f": {text}" if text else "")
    if not text and not lasting:
        return ""
    lines = textwrap.wrap(line, width or 100, subsequent_indent="    ", break_on_hyphens=False)
    lines[0] = lines[0].replace(called, paint(called, "bold", colour), 1)
    return "\n".join([*lines, *(f"    {purpose} {command}" for purpose, command in words.commands(run))])


def _lasting(run: Run, now: float) -> str:
    """How long it has been so: ` for 2h 5m`, ` 2h 5m ago`."""
    if run.get("state") in ENDED:
        return f" {age(run['ended_at'], now)} ago" if wall(run.get("ended_at")) is not None else ""
    since = wall(run.get("state_since"))
    return "" if since is None else f" for {duration(max(0.0, now - since))}"
