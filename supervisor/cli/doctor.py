"""`stoker doctor`: what is wrong here, and what to do about it."""

from pathlib import Path
from typing import Annotated

import typer


def doctor(
    ctx: typer.Context,
    python: Annotated[
        Path | None, typer.Option("--python", help="The interpreter that trains; default: Stoker's own.")
    ] = None,
    exact: Annotated[
        bool,
        typer.Option(
            "--exact", help="Train a tiny model several times: do equal runs end in equal bytes here? 1 if not."
        ),
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
) -> None:
    """Examine this machine's Stoker. Exit code 1 if something is broken; warnings are no error."""
    import json
    import sys
    from dataclasses import asdict

    from stoker.supervisor.doctor import Subject, examine
    from stoker.supervisor.paths import Home
    from stoker.supervisor.service.manager import service_manager
    from stoker.supervisor.service.spec import service_spec

    home = Home(ctx.obj.dir.absolute())
    if exact:
        from stoker.supervisor.cli.exact import try_exactness

        # absolute, not resolved: a virtual environment is its link, not what that leads to
        if not try_exactness(home, (python or Path(sys.executable)).expanduser().absolute(), as_json=as_json):
            raise typer.Exit(1)
        return
    checks = examine(Subject(home, service_spec(home.dir), service_manager(), python=python or Path(sys.executable)))
    broken = any(check.level == "broken" for check in checks)
    if as_json:
        print(json.dumps({"ok": not broken, "checks": [asdict(check) for check in checks]}, indent=2))
    else:
        for check in checks:
            print(f"{check.level:<8} {check.name:<14} {check.what}")
            if check.fix:
                print(f"{'':<23} -> {check.fix}")
    if broken:
        raise typer.Exit(1)
