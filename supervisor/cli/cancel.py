"""`stoker cancel`."""

from typing import Annotated

import typer


def cancel(
    context: typer.Context,
    run: Annotated[str, typer.Argument(metavar="RUN", help="A run_id, a unique prefix of it, or a name.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
) -> None:
    """End a run for good; `stoker retry` would go on from its last good checkpoint."""
    from stoker.supervisor.cli.asking import act

    act(context.obj, "cancel", run, as_json=as_json)
