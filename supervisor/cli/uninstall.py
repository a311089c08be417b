"""`stoker uninstall`: take the service away, and nothing else."""

import typer


def uninstall(ctx: typer.Context) -> None:
    """Stop and remove the service. Runs, checkpoints and running trainers are left as they are. May be repeated."""
    from pathlib import Path

    from stoker.supervisor.paths import Home
    from stoker.supervisor.service.manager import service_manager
    from stoker.supervisor.service.manager import uninstall as uninstall_service
    from stoker.supervisor.service.spec import service_spec

    home = Home(ctx.obj.dir.absolute())
    outcome = uninstall_service(home, service_spec(home.dir), service_manager(), Path.home())
    for line in outcome.done or ("no service was installed",):
        print(line)
    print(f"{home.dir} is untouched, with all its runs. A trainer that runs goes on to its end, unwatched.")
