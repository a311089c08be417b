"""`stoker verify`: the checkpoint verifier on any file or folder."""

import json
import sys
from pathlib import Path
from typing import Annotated, Any

import typer


def verify(
    paths: Annotated[
        list[Path],
        typer.Argument(
            metavar="PATH...", help="A checkpoint, an adapter, a safetensors file, or a folder of checkpoints."
        ),
    ],
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
    quick: Annotated[bool, typer.Option("--quick", help="Names, sizes and headers only; no hash, no values.")] = False,
) -> None:
    """Check that checkpoints and adapters are whole, unchanged and finite. Exit code 1 if any is not."""
    from stoker.recovery.checkpoint.verify import verify as look
    from stoker.supervisor.errors import UsageError

    missing = [str(path) for path in paths if not path.exists()]
    if missing:
        raise UsageError(
            f"{', '.join(missing)}: no such file or folder", hint="name a checkpoint, an adapter or a safetensors file"
        )
    verdicts = [look(each, full=not quick) for path in paths for each in _expand(path)]
    if as_json:
        print(json.dumps([_document(verdict) for verdict in verdicts], indent=2))
    else:
        _print(verdicts)
    if not all(verdict.ok for verdict in verdicts):
        raise typer.Exit(1)


def _expand(path: Path) -> list[Path]:
    """A run's folder of checkpoints stands for each checkpoint inside; anything else for itself."""
    from stoker.recovery.checkpoint.manifest import parse_name
    from stoker.recovery.checkpoint.verify import kind_of

    if path.is_dir() and kind_of(path) == "adapter":
        inside = sorted(each for each in path.iterdir() if each.is_dir() and parse_name(each.name))
        if inside:
            return inside
    return [path]


def _document(verdict: Any) -> dict[str, Any]:
    return {
        "path": str(verdict.path),
        "ok": verdict.ok,
        "problems": list(verdict.problems),
        "notes": list(verdict.notes),
        "kind": verdict.kind,
        "iteration": verdict.iteration,
        "sha256": verdict.sha256,
    }


def _print(verdicts: list[Any]) -> None:
    for verdict in verdicts:
        at = f", iteration {verdict.iteration}" if verdict.iteration is not None else ""
        print(f"{'ok ' if verdict.ok else 'BAD'} {verdict.path} ({verdict.kind}{at})")
        for problem in verdict.problems:
            print(f"      {problem}")
        for note in verdict.notes:
            print(f"      note: {note}")
    sys.stdout.flush()
