"""`stoker explain RUN`: why each attempt ended, why that was done about it, and the lines that prove it."""

import time
from collections.abc import Sequence
from typing import Annotated

import typer

from stoker.supervisor.paths import Home, RunPaths
from stoker.supervisor.review.excerpt import Line, excerpt


def explain(
    context: typer.Context,
    run: Annotated[str, typer.Argument(metavar="RUN", help="A run's id, the beginning of it, or its name.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
    around: Annotated[int, typer.Option("--context", "-C", min=0, max=50, help="Lines around each evidence line.")] = 3,
) -> None:
    """Why each attempt ended and why that was done about it, with the evidence."""
    from stoker.supervisor.store.read import Reader

    home: Home = context.obj
    with Reader(home) as reader:
        run_id = reader.find(run)
        document, decisions = reader.show(run_id), reader.decisions(run_id)
    paths = home.run(run_id)

    def excerpts(attempt: int, file: str, line: int) -> Sequence[Line]:
        return _excerpt(paths, attempt, file, line, around)

    if as_json:
        from stoker.supervisor.review.document import dumps
        from stoker.supervisor.review.explain import document as form

        print(dumps(form(document, decisions, excerpts)))
        return
    from stoker.supervisor.review import console
    from stoker.supervisor.review.explain import render

    console.show(render(document, decisions, excerpts, now=time.time()))


def _excerpt(run: RunPaths, attempt: int, file: str, line: int, around: int) -> Sequence[Line]:
    """Read around a line of a file in the attempt's folder; a name that points elsewhere is not followed."""
    folder = run.attempt(attempt).dir
    path = folder / file
    return excerpt(path, line, around=around) if path.parent == folder and path.name not in {"", ".."} else ()
