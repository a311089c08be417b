"""`stoker retry`."""

from typing import Annotated

import typer


def retry(
    context: typer.Context,
    run: Annotated[str, typer.Argument(metavar="RUN", help="A run_id, a unique prefix of it, or a name.")],
    from_start: Annotated[bool, typer.Option("--from-start", help="From iteration 0, not from the last good.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
) -> None:
    """Try a failed or cancelled run again, with fresh budgets, from its last good checkpoint."""
    from stoker.supervisor.cli.asking import act

    act(context.obj, "retry", run, as_json=as_json, from_start=from_start)
