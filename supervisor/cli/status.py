"""`stoker status`: what is running, what waits and for what, what ended lately. Works with the daemon down."""

import sys
import time
from typing import Annotated

import typer

from stoker.supervisor.paths import Home

_SECONDS = 2.0  # between two pages of --watch


def status(
    context: typer.Context,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
    watch: Annotated[bool, typer.Option("--watch", "-w", help="Show the page again every two seconds.")] = False,
) -> None:
    """What is running, what waits and for what, what ended lately."""
    from stoker.supervisor.review.overview import print_status

    home: Home = context.obj
    if watch:
        _watch(home)
    else:
        print_status(home, as_json=as_json)


def _watch(home: Home) -> None:
    """Show the page in place until the person has seen enough."""
    from stoker.supervisor.errors import UsageError
    from stoker.supervisor.review.overview import page

    if not sys.stdout.isatty():
        raise UsageError(
            "--watch needs a terminal", hint="in a script, call `stoker status --json` as often as you need"
        )
    try:
        while True:
            # Home, the page with each line's rest cleared, then everything below: no flicker, nothing left over.
            text = page(home).replace("\n", "\x1b[K\n")
            sys.stdout.write(f"\x1b[H{text}\x1b[K\n\x1b[J")
            sys.stdout.flush()
            time.sleep(_SECONDS)
    except KeyboardInterrupt:
        print()
