"""`stoker run`: the daemon in the foreground."""

from typing import Annotated

import typer


def run(
    context: typer.Context,
    drain: Annotated[bool, typer.Option("--drain", help="End when no run is queued or active.")] = False,
) -> None:
    """Serve the inbox in the foreground; SIGTERM ends the daemon, never the trainers."""
    from stoker.supervisor.cli.quick import serve

    serve(context.obj, drain=drain)
