"""`stoker run`: the daemon in the foreground."""

import sys
from typing import Annotated

import typer


def run(
    context: typer.Context,
    drain: Annotated[bool, typer.Option("--drain", help="End when no run is queued or active.")] = False,
) -> None:
    """Serve the inbox in the foreground; SIGTERM ends the daemon, never the trainers."""
    from stoker.supervisor.clock import SystemClock
    from stoker.supervisor.daemon import Daemon
    from stoker.supervisor.logs import set_up
    from stoker.supervisor.settings import load_settings

    home = context.obj
    settings = load_settings(home.settings)
    home.create()
    set_up(home.log, terminal=sys.stderr.isatty())
    Daemon(home, settings, SystemClock(), drain=drain).run()
