"""`stoker edit`."""

from typing import Annotated

import typer

_MORE = (
    "Examples: stoker edit sft-4b iters=20000 · stoker edit sft-4b learning_rate=5e-6 stoker.checkpoint.every=10m",
    # Of these words only square brackets have a meaning for the help.
    "Values are YAML, as in the job file: 5e-6, 10m, true, '\\[a, b]' for a list, null for the default.",
    (
        "Keys: iters (only up; a completed run goes on from where it ended), learning_rate, save_every, steps_per_eval, "
        "steps_per_report, val_batches, grad_checkpoint, max_seq_length, micro_batch (rows of a batch taken at once) "
        "and stoker.*, but not its name, trainer, python, command, base_dir, distributed and profile. "
        "Anything else is a new job: submit a copy."
    ),
)


def edit(
    context: typer.Context,
    run: Annotated[str, typer.Argument(metavar="RUN", help="A run_id, a unique prefix of it, or a name.")],
    changes: Annotated[list[str], typer.Argument(metavar="KEY=VALUE...", help="All of them are made, or none.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
) -> None:
    """Change the configuration of a run's next attempt; the submitted file stays as it is."""
    from stoker.profiles import edits
    from stoker.supervisor.cli.asking import act
    from stoker.supervisor.errors import UsageError
    from stoker.supervisor.instance import running_pid

    _, mistakes = edits.read(changes)
    if mistakes and running_pid(context.obj.lock) is None:  # a daemon would find them too, but only at its next start
        raise UsageError("\n  ".join(mistakes), hint=edits.HINT)
    act(context.obj, "edit", run, as_json=as_json, changes=changes)


edit.__doc__ = "\n\n".join((edit.__doc__ or "", *_MORE))
