"""The attempts of a run as a table: how each ended and why, the evidence, what was done, what it cost.

It closes the demo and stands in the middle of `show`.
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from stoker.supervisor.review import words
from stoker.supervisor.review.format import DASH, clean, count, finite, shorten
from stoker.supervisor.review.status import progress_line
from stoker.supervisor.review.steps import Step, steps

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.text import Text

__all__ = ["progress_line", "story"]

_EVIDENCE = 160  # columns of an evidence line; the whole of it is in `explain`


def story(show: Mapping[str, Any], decisions: Sequence[Mapping[str, Any]] = ()) -> "RenderableType":
    """Return the table of attempts for the reader's `show()` and `decisions()`."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    told = steps(show, decisions)
    if not told:
        return Text("no attempt yet", style="dim")
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False, padding=(0, 1, 0, 0), header_style="bold")
    table.add_column("#", justify="right", no_wrap=True)
    table.add_column("iterations", no_wrap=True)
    table.add_column("ended", max_width=18)
    table.add_column("evidence, what was done", ratio=1, overflow="fold")
    table.add_column("lost", justify="right", no_wrap=True)
    for step in told:
        lost = step.attempt.get("lost_iterations")
        table.add_row(
            Text(clean(step.attempt.get("n", ""))),
            _span(step),
            _ended(step),
            _account(step),
            Text(DASH if finite(lost) is None else count(lost)),
        )
    return table


def _span(step: Step) -> "Text":
    """From where to where, and how it began."""
    from rich.text import Text

    text = Text(f"{count(step.attempt.get('from_iteration'))} → {count(step.reached)}")
    if kind := clean(step.attempt.get("resume") or ""):
        text.append(f"\n{kind}", style={"exact": "green", "warm": "yellow"}.get(kind, "dim"))
    if checkpoint := step.attempt.get("checkpoint"):
        text.append(f"\n{clean(checkpoint)}", style="dim")
    return text


def _ended(step: Step) -> "Text":
    from rich.text import Text

    how = words.ended(step.attempt)
    if step.on_request:
        return Text("stopped on request").append(f"\n{how}", style="dim")
    if step.cause in {"", "healthy"}:
        return Text("completed" if step.cause else how, style="green")
    text = Text(step.cause, style="red")
    if step.simulated:
        text.append(" (simulated)", style="magenta")
    return text.append(f"\n{how}", style="dim")


def _account(step: Step) -> "Text":
    """The line that proves it, and what was done about it."""
    from rich.text import Text

    lines = [Text(shorten(words.evidence(finding), _EVIDENCE)) for finding in step.findings[:1]]
    change = f"on release {step.change}" if step.asks and step.change else step.change
    if said := ", ".join(part for part in (step.done, change) if part):
        lines.append(Text(f"→ {said}", style="bold"))
    if step.rejected:
        names = ", ".join(clean(item.get("name", "")) for item in step.rejected)
        lines.append(Text(f"→ quarantined {names}", style="bold"))
    return Text("\n").join(lines)
