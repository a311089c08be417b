"""`stoker install`: Stoker as a service of this user."""

from typing import Annotated

import typer


def install(
    ctx: typer.Context,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show the file and the commands; change nothing.")] = False,
) -> None:
    """Install Stoker as a launchd or systemd service of this user, and start it. May be repeated.

    Exit code 1 when the service does not run afterwards.
    """
    import sys
    from pathlib import Path

    from stoker.supervisor.paths import Home
    from stoker.supervisor.service import launchd, systemd
    from stoker.supervisor.service.manager import install as install_service
    from stoker.supervisor.service.manager import preview, service_manager
    from stoker.supervisor.service.spec import service_spec

    home = Home(ctx.obj.dir.absolute())
    spec, manager, user_home = service_spec(home.dir), service_manager(), Path.home()
    if dry_run:
        print("would do:", *preview(home, spec, manager, user_home), sep="\n  ")
        print("\n" + (launchd if sys.platform == "darwin" else systemd).render(spec).decode(), end="")
        return
    outcome = install_service(home, spec, manager, user_home)
    for line in outcome.done or ("nothing to do",):
        print(line)
    for line in outcome.warnings:
        print(f"stoker: {line}", file=sys.stderr)
    if outcome.see:
        print("see it with:", "stoker status", *outcome.see, sep="\n  ")
    print(f"drop jobs into {home.inbox}")
    if not outcome.running:
        raise typer.Exit(1)
