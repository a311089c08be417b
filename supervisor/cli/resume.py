"""`stoker resume` and its other name, `stoker release`: end a hold."""

from typing import Annotated

import typer

_Run = Annotated[str, typer.Argument(metavar="RUN", help="A run_id, a unique prefix of it, or a name.")]
_Changed = Annotated[
    bool, typer.Option("--accept-changed-data", help="Go on although model, data or versions changed; labelled warm.")
]
_Force = Annotated[bool, typer.Option("--force", help="Although a process of the last attempt still lives.")]
_Json = Annotated[bool, typer.Option("--json", help="Print one JSON document.")]


def resume(
    context: typer.Context,
    run: _Run,
    accept_changed_data: _Changed = False,
    force: _Force = False,
    as_json: _Json = False,
) -> None:
    """End a hold: go on from the last good checkpoint."""
    from stoker.supervisor.cli.asking import act

    act(context.obj, "resume", run, as_json=as_json, accept_changed=accept_changed_data, force=force)


def release(
    context: typer.Context,
    run: _Run,
    accept_changed_data: _Changed = False,
    force: _Force = False,
    as_json: _Json = False,
) -> None:
    """The same as resume."""
    resume(context, run, accept_changed_data, force, as_json)
