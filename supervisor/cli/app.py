"""The typer application: the verbs by panel, and the home folder."""

from pathlib import Path
from typing import Annotated

import typer

from stoker.supervisor.cli import verbs
from stoker.supervisor.paths import Home, default_home

app = typer.Typer(
    help="Keeps MLX fine-tuning running: supervises mlx-lm, diagnoses crashes, resumes exactly.",
    no_args_is_help=True,
    add_completion=True,
    pretty_exceptions_enable=False,
)


def _version(asked: bool) -> None:
    if asked:
        from importlib.metadata import version

        print(f"stoker {version('stoker')}")
        raise typer.Exit


@app.callback()
def _home(
    ctx: typer.Context,
    home: Annotated[
        Path | None, typer.Option(help="Stoker's home folder. Default: $STOKER_HOME.", metavar="DIR")
    ] = None,
    _: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")] = False,
) -> None:
    ctx.obj = Home(home.expanduser().absolute() if home else default_home())


for _panel, _functions in verbs.PANELS.items():
    for _function in _functions:
        app.command(rich_help_panel=_panel)(_function)
