"""`stoker show RUN`: one page about a run, the verdict first."""

import time
from typing import Annotated

import typer

from stoker.supervisor.paths import Home


def show(
    context: typer.Context,
    run: Annotated[str, typer.Argument(metavar="RUN", help="A run's id, the beginning of it, or its name.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
) -> None:
    """One page about a run: verdict, attempts, changes of configuration, final adapter."""
    from stoker.supervisor.store.read import Reader

    home: Home = context.obj
    with Reader(home) as reader:
        run_id = reader.find(run)
        document = reader.show(run_id)
        decisions = [] if as_json else reader.decisions(run_id)
    if as_json:
        from stoker.supervisor.review.document import dumps

        print(dumps(document))
        return
    from stoker.supervisor.review import console
    from stoker.supervisor.review.course import losses
    from stoker.supervisor.review.show import render

    course = losses(home.run(run_id), document.get("attempt") or 0)
    console.show(render(document, decisions, now=time.time(), losses=course))
