"""`stoker show RUN`: one page about a run, the verdict first."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from stoker.supervisor.review import words
from stoker.supervisor.review.format import bar, clean, clock, figure, fraction, percent, sparkline
from stoker.supervisor.review.story import story
from stoker.supervisor.review.verdict import label, verdict
from stoker.supervisor.states import ENDED

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.text import Text

Document = Mapping[str, Any]
# Keys of the configuration that tell one run from another; the whole of it is in --json and in attempts/N/config.yaml.
_TELLING = (
    "model",
    "data",
    "fine_tune_type",
    "num_layers",
    "batch_size",
    "grad_accumulation_steps",
    "learning_rate",
    "max_seq_length",
    "grad_checkpoint",
    "seed",
)


def render(
    show: Document, decisions: Sequence[Mapping[str, Any]] = (), *, now: float, losses: Sequence[object] = ()
) -> "RenderableType":
    """Return the page for the reader's `show()` and `decisions()`; `losses` = the course of the loss."""
    from rich.console import Group
    from rich.text import Text

    parts: list[RenderableType] = [_title(show, now), Text(verdict(show, now=now), style="bold")]
    parts += [unbroken(f"  {purpose} {command}") for purpose, command in words.commands(show)]
    if course := _course(show, losses):
        parts += [Text(), course]
    parts += [Text(), heading("Attempts"), story(show, decisions), Text()]
    if adjustments := show.get("adjustments"):
        parts += [
            heading("Changes of configuration (the submitted file stays as it is)"),
            *_changes(adjustments),
            Text(),
        ]
    if final := _final(show):
        parts += [heading("Final adapter"), *final, Text()]
    if config := _config(show.get("config") or {}):
        parts += [heading("Configuration"), config, Text()]
    run_id = words.quoted(show)
    parts.append(unbroken(f"more: stoker explain {run_id} · stoker logs {run_id}", style="dim"))
    return Group(*parts)


def heading(text: str) -> "Text":
    """Return a section's heading."""
    from rich.text import Text

    return Text(text, style="bold underline")


def unbroken(text: str, style: str = "") -> "Text":
    """Return a line that is never wrapped: a command or a path that people copy."""
    from rich.text import Text

    return Text(text, style=style, no_wrap=True, overflow="ignore")


def _title(show: Document, now: float) -> "Text":
    from rich.text import Text

    text = Text(clean(show.get("name") or show.get("run_id") or ""), style="bold")
    text.append(f"  {clean(show.get('state') or '')}", style=words.colour(show.get("state")))
    text.append(f"  {clean(show.get('run_id') or '')}", style="dim not bold")
    if show.get("created_at"):
        text.append(f"  submitted {clock(show['created_at'], now)}", style="dim not bold")
    return text


def _course(show: Document, losses: Sequence[object]) -> "Text | None":
    """How far, how fast, how the loss went; nothing where there is nothing to show."""
    from rich.text import Text

    done = fraction(show.get("iteration"), show.get("iters"))
    pieces = []
    if done is not None and show.get("state") not in ENDED:
        pieces.append(f"{bar(done, 24)} {words.place(show)} {percent(done)}")
    if line := sparkline(losses, 24):
        pieces.append(f"loss {line} {words.loss(show)}")
    elif show.get("loss") is not None:
        pieces.append(f"loss {words.loss(show)}")
    return Text("   ".join(pieces)) if pieces else None


def _changes(adjustments: Sequence[Document]) -> "list[RenderableType]":
    from rich.padding import Padding
    from rich.text import Text

    lines: list[RenderableType] = []
    for adjustment in adjustments:
        text = Text(f"attempt {clean(adjustment.get('attempt', '?'))}  ", style="dim")
        text.append(words.change(adjustment), style="bold not dim")
        said = words.why_changed(adjustment)
        text.append(f"  {said}" if said else "", style="not dim")
        lines.append(Padding(text, (0, 0, 0, 2)))
    return lines


def _final(show: Document) -> "list[Text]":
    final = show.get("final") or {}
    if not final.get("adapter"):
        return []
    lines = [unbroken(f"  {clean(final['adapter'])}")]
    if final.get("sha256"):
        lines.append(unbroken(f"  sha256 {clean(final['sha256'])}"))
    kind = label(show)
    facts = [f"final loss {figure(final['loss'])}" if final.get("loss") is not None else "", kind and f"label {kind}"]
    return [*lines, unbroken("  " + " · ".join(fact for fact in facts if fact))] if any(facts) else lines


def _config(config: Document) -> "Text | None":
    from rich.text import Text

    pairs = [(key, words.value(config[key])) for key in _TELLING if config.get(key) is not None]
    if not pairs:
        return None
    text = Text()
    for number, (key, value) in enumerate(pairs):
        text.append("  " if number else "").append(f"{key}=", style="dim").append(value)
    return text
