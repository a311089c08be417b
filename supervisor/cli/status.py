"""`stoker status`: what is running, what waits and for what, what ended lately. Works with the daemon down."""

import sys
import time
from typing import Annotated, Any

import typer

from stoker.supervisor.paths import Home

_SECONDS = 2.0  # between two pages of --watch


def status(
    context: typer.Context,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
    watch: Annotated[bool, typer.Option("--watch", "-w", help="Show the page again every two seconds.")] = False,
) -> None:
    """What is running, what waits and for what, what ended lately."""
    home: Home = context.obj
    if as_json:
        from stoker.supervisor.review.document import dumps

        print(dumps(_read(home)))
        return
    if not watch:
        from stoker.supervisor.review.console import say

        say(_page(home))
        return
    _watch(home)


def _read(home: Home) -> dict[str, Any]:
    from stoker.supervisor.store.read import Reader

    with Reader(home) as reader:
        return reader.status()


def _page(home: Home) -> str:
    from stoker.supervisor.review import console, words
    from stoker.supervisor.review.course import losses
    from stoker.supervisor.review.status import render

    document = _read(home)
    courses = {
        run["run_id"]: losses(home.run(run["run_id"]), run.get("attempt") or 0)
        for run in document["runs"]
        if run.get("state") in words.TRAINING
    }
    return render(document, now=time.time(), width=console.width(), colour=console.colours(), losses=courses)


def _watch(home: Home) -> None:
    """Show the page in place until the person has seen enough."""
    from stoker.supervisor.errors import UsageError

    if not sys.stdout.isatty():
        raise UsageError(
            "--watch needs a terminal", hint="in a script, call `stoker status --json` as often as you need"
        )
    try:
        while True:
            # Home, the page with each line's rest cleared, then everything below: no flicker, nothing left over.
            page = _page(home).replace("\n", "\x1b[K\n")
            sys.stdout.write(f"\x1b[H{page}\x1b[K\n\x1b[J")
            sys.stdout.flush()
            time.sleep(_SECONDS)
    except KeyboardInterrupt:
        print()
