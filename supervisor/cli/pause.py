"""`stoker pause`."""

from typing import Annotated

import typer


def pause(
    context: typer.Context,
    run: Annotated[str, typer.Argument(metavar="RUN", help="A run_id, a unique prefix of it, or a name.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
) -> None:
    """Commit a checkpoint, end the trainer and hold the run; `stoker resume` goes on exactly."""
    from stoker.supervisor.cli.asking import act

    act(context.obj, "pause", run, as_json=as_json)
