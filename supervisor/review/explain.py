"""`stoker explain RUN`: why each attempt ended and why what was done was done, with the lines that prove it."""

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from stoker.recovery.edited import REASON
from stoker.supervisor.review import words
from stoker.supervisor.review.excerpt import Line
from stoker.supervisor.review.format import age, clean, clock, count, duration, finite, wall
from stoker.supervisor.review.show import unbroken
from stoker.supervisor.review.steps import Step, steps
from stoker.supervisor.review.verdict import verdict

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.text import Text

Document = Mapping[str, Any]
# (attempt, file, line) -> the lines around it; empty when the file is gone
Excerpts = Callable[[int, str, int], Sequence[Line]]
_ELSEWHERE = frozenset({"iteration", "from_iteration", "last_iteration", "target", "lost_iterations"})
_FINDINGS = 6  # of one attempt, shown with their lines; the rest are in --json


def render(show: Document, decisions: Sequence[Document], excerpts: Excerpts, *, now: float) -> "RenderableType":
    """Return the explanation for the reader's `show()` and `decisions()`."""
    from rich.console import Group
    from rich.text import Text

    parts: list[RenderableType] = [
        Text(clean(show.get("run_id") or ""), style="bold"),
        Text(verdict(show, now=now)),
    ]
    told = steps(show, decisions)
    for step in told:
        parts += [*_edits(show, step.attempt.get("n")), Text(), _title(step, now), _attempt(step, excerpts)]
    if not told:
        parts += [Text(), Text("No attempt yet, so nothing was decided.")]
    parts += _edits(show, (told[-1].attempt.get("n") or 0) + 1 if told else 1)
    if commands := [item for item in words.commands(show) if not item[1].startswith("stoker explain ")]:
        parts += [Text(), *(unbroken(f"{purpose} {command}") for purpose, command in commands)]
    return Group(*parts)


def document(show: Document, decisions: Sequence[Document], excerpts: Excerpts) -> dict[str, Any]:
    """Return the JSON form: RUN, and the decisions with the lines around each finding in `context`."""
    kept = ("run_id", "name", "state", "attempt", "iteration", "iters", "loss", "ettr", "eta_s", "reason", "exact")
    return {
        **{key: show.get(key) for key in kept},
        "adjustments": show.get("adjustments") or [],
        "decisions": [
            {
                **decision,
                "findings": [
                    {**finding, "context": [{"line": line.number, "text": line.text} for line in around]}
                    for finding in decision.get("findings") or ()
                    for around in [_around(decision.get("attempt"), finding, excerpts)]
                ],
            }
            for decision in decisions
        ],
    }


def _edits(show: Document, attempt: object) -> "list[Text]":
    """What a person changed before an attempt; what recovery changed stands with the attempt that made it do so."""
    from rich.text import Text

    made = [a for a in show.get("adjustments") or () if a.get("attempt") == attempt and a.get("reason") == REASON]
    if not made:
        return []
    head = Text(f"Before attempt {clean(attempt)} you changed", style="bold")
    return [Text(), head, *(Text(f"  {words.change(a)}; {words.preserved(a)}".rstrip("; ")) for a in made)]


def _title(step: Step, now: float) -> "Text":
    from rich.text import Text

    attempt = step.attempt
    text = Text(f"Attempt {clean(attempt.get('n', '?'))}", style="bold underline")
    facts = [f"iterations {count(attempt.get('from_iteration'))} → {count(step.reached)}"]
    if resume := attempt.get("resume"):
        source = f" from {clean(attempt['checkpoint'])}" if attempt.get("checkpoint") else ""
        facts.append(clean(resume) + source)
    started, ended = wall(attempt.get("started_at")), wall(attempt.get("ended_at"))
    if started is not None:
        lasted = duration(ended - started) if ended is not None else f"{age(started, now)} so far"
        facts.append(f"{clock(started, now)}, {lasted}")
    return text.append("  " + " · ".join(facts), style="not bold not underline")


def _attempt(step: Step, excerpts: Excerpts) -> "RenderableType":
    from rich.padding import Padding
    from rich.table import Table
    from rich.text import Text

    grid = Table.grid(padding=(0, 2), expand=True)
    grid.add_column(style="dim", no_wrap=True, min_width=len("quarantined"))
    grid.add_column(ratio=1, overflow="fold")
    grid.add_row("what", _what(step))
    for finding in step.findings[:_FINDINGS]:
        grid.add_row("evidence", _finding(step.attempt.get("n"), finding, excerpts))
    if hidden := len(step.findings[_FINDINGS:]):
        grid.add_row("", Text(f"... and {hidden} more; all of them: --json", style="dim"))
    for label, text in _decided(step):
        grid.add_row(label, Text(text))
    return Padding(grid, (0, 0, 0, 2))


def _what(step: Step) -> "Text":
    """What happened, how sure that is, and how the process ended."""
    from rich.text import Text

    how = words.ended(step.attempt)
    if not step.cause:
        return Text(how)
    if step.on_request:
        return Text(f"stopped on request; {how}")
    text = Text(words.cause(step.cause), style="bold")
    sure = finite(step.decision.get("confidence"))
    text.append(f" ({step.cause}" + (f", confidence {sure:g}" if sure is not None else "") + ")", style="not bold")
    if step.simulated:
        text.append(" (simulated)", style="magenta")
    return text.append(f"; {how}", style="not bold")


def _finding(attempt: object, finding: Document, excerpts: Excerpts) -> "RenderableType":
    """One finding: where, by which rule, and the lines around it with the matching one marked."""
    from rich.console import Group
    from rich.text import Text

    where, line = words.file(finding), finding.get("line")
    role = f", {clean(finding['role'])}" if finding.get("role") else ""
    head = Text(f"{where}:{line}" if where and line else where or "observed", style="bold")
    head.append(f"  rule {clean(finding.get('rule') or '?')}{role}", style="dim not bold")
    around = _around(attempt, finding, excerpts)
    if not around:
        return Group(head, Text(f"  {clean(finding.get('text') or '')}", style="red"))
    digits = len(str(around[-1].number))
    said = clean(finding.get("text") or "").strip()
    lines = [_numbered(item, digits, said if item.number == line else None) for item in around]
    return Group(head, *lines)


def _numbered(line: Line, digits: int, match: str | None) -> "Text":
    """A line of the log with its number; the matching one is shown whole, its neighbours are cut at the edge.

    A line that a progress bar rewrote may hold the match in a piece that was overwritten: then the piece is shown.
    """
    from rich.text import Text

    if match is None:
        return Text(f"  {line.number:>{digits}} │ {line.text}", style="dim", no_wrap=True, overflow="ellipsis")
    text = line.text if match in line.text else match
    return Text(f"> {line.number:>{digits}} │ {text}", style="red", overflow="fold")


def _around(attempt: object, finding: Document, excerpts: Excerpts) -> Sequence[Line]:
    file, line = finding.get("file"), finding.get("line")
    if not isinstance(attempt, int) or not isinstance(file, str) or not isinstance(line, int) or line < 1:
        return ()
    return excerpts(attempt, file, line)


def _decided(step: Step) -> list[tuple[str, str]]:
    """Label and text of everything that follows from the cause."""
    decision = step.decision
    reason = clean(decision.get("reason") or "")
    rows = [
        ("label", "; ".join(words.label(item) for item in step.attempt.get("label_reasons") or ())),
        ("missing", _missing(step)),
        ("policy", ": ".join(part for part in (clean(decision.get("row") or ""), reason) if part)),
    ]
    for item in step.rejected:
        problems = "; ".join(clean(problem) for problem in item.get("problems") or ()) or "no problem recorded"
        rows.append(("quarantined", f"{clean(item.get('name', ''))}: {problems}"))
    rows.append(("done", step.done))
    if step.following.get("checkpoint"):
        rows.append(("checkpoint", f"{step.target}: the newest that is complete, verified and from before the trouble"))
    if adjustment := decision.get("adjustment"):
        why = words.why_changed(adjustment, told=reason)
        rows.append(("asks for" if step.asks else "change", step.change + (f": {why}" if why else "")))
    if (lost := step.attempt.get("lost_iterations")) is not None and step.cause != "healthy":
        rows.append(("cost", words.lost(lost, step.attempt.get("lost_s"))))
    rows.append(("numbers", _numbers(decision.get("numbers") or {})))
    advice = clean(decision.get("advice") or "")
    if not step.following and step.cause != "healthy" and advice not in reason:
        rows.append(("advice", advice))
    return [(label, text) for label, text in rows if text]


def _missing(step: Step) -> str:
    """What kept an attempt that ended well from being a success; after a crash it goes without saying."""
    missing = step.decision.get("missing") or ()
    return "; ".join(clean(item) for item in missing) if step.attempt.get("exit_code") == 0 else ""


def _numbers(numbers: Document) -> str:
    """What the decision was made from, without what is nothing and what stands elsewhere on the page."""
    said = []
    without = any(number for key, number in numbers.items() if "without" in key and not key.endswith("ceiling"))
    for key, number in numbers.items():
        limit = key.endswith("ceiling") and not without  # a budget that is untouched
        if key in _ELSEWHERE or limit or not number:
            continue
        label = clean(key).replace("_", " ")
        if "seconds" in label:
            said.append(f"{label.replace('seconds ', '').replace(' seconds', '')} {duration(number)}")
        else:
            said.append(f"{label} {words.value(number)}")
    return " · ".join(said)
