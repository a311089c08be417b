"""`stoker runs`: every run, ended ones too, newest first."""

import time
from typing import Annotated

import typer

from stoker.supervisor.paths import Home

_SHOWN = 50


def runs(
    context: typer.Context,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document (all runs, unless -n).")] = False,
    state: Annotated[
        list[str] | None, typer.Option("--state", "-s", help="Only runs in this state; may be repeated.")
    ] = None,
    limit: Annotated[
        int | None, typer.Option("-n", min=1, help=f"At most so many, the newest. Default: {_SHOWN}.")
    ] = None,
    every: Annotated[bool, typer.Option("--all", "-a", help="All of them.")] = False,
) -> None:
    """Every run, ended ones too, newest first."""
    from stoker.supervisor.store.read import Reader

    home: Home = context.obj
    with Reader(home) as reader:
        document = reader.runs(_states(state))
    if as_json:
        from stoker.supervisor.review.document import dumps

        print(dumps({**document, "runs": document["runs"][:limit]}))
        return
    from stoker.supervisor.review import console
    from stoker.supervisor.review.runs import render

    shown = None if every else limit or _SHOWN
    console.say(render(document, now=time.time(), width=console.width(), colour=console.colours(), limit=shown))


def _states(wanted: list[str] | None) -> set[str] | None:
    """Check the names of states: a misspelt one would silently find nothing."""
    from stoker.supervisor.errors import UsageError
    from stoker.supervisor.states import State

    if not wanted:
        return None
    known = [state.value for state in State]
    for name in wanted:
        if name not in known:
            raise UsageError(f"no state is called {name!r}", hint=f"states: {' '.join(known)}")
    return set(wanted)
