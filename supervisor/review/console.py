"""What the terminal can do: width, colours, encoding. The verbs ask here, once; the renderers are told."""

import os
import shutil
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import RenderableType


def width() -> int | None:
    """Return the columns of the terminal; None for a pipe, where nothing is shortened."""
    if not sys.stdout.isatty() and not os.environ.get("COLUMNS"):
        return None
    return max(shutil.get_terminal_size((80, 24)).columns, 40)


def colours() -> bool:
    """Return whether colour sequences may be written: only to a terminal that has not declined them."""
    return sys.stdout.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def say(text: str) -> None:
    """Print one block of text, whatever encoding stdout has."""
    forgive()
    print(text)


def show(renderable: "RenderableType") -> None:
    """Print a rich renderable: 80 columns in a pipe, commands and paths unbroken, colours only on a terminal."""
    from rich.console import Console

    forgive()
    console = Console(
        width=width() or 80, color_system="auto" if colours() else None, highlight=False, markup=False, emoji=False
    )
    if colours():
        console.print(renderable, crop=False)
        return
    with console.capture() as captured:
        console.print(renderable, crop=False)
    print("\n".join(line.rstrip() for line in captured.get().rstrip("\n").split("\n")))  # rich pads its tables


def forgive() -> None:
    """Replace what stdout cannot encode (an ASCII or Latin-1 locale) instead of dying of a block character."""
    reconfigure = getattr(sys.stdout, "reconfigure", None)
    if reconfigure is not None and (sys.stdout.encoding or "").lower().replace("-", "") != "utf8":
        reconfigure(errors="replace")
