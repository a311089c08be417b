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
            metavar="PATH...",
            help="A checkpoint, an adapter, a safetensors file, a folder of checkpoints, or a run's folder.",
        ),
    ],
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
    quick: Annotated[bool, typer.Option("--quick", help="Names, sizes and headers only; no hash, no values.")] = False,
    model: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="The base model to compare with; default: the one that the files name."),
    ] = None,
) -> None:
    """Check that checkpoints and adapters are whole, unchanged, finite and fit their base model. Exit code 1 if any does
    not.
    """
    from stoker.recovery.checkpoint.origin import origin_of, with_model
    from stoker.recovery.checkpoint.verify import verify as look
    from stoker.supervisor.errors import UsageError

    missing = [str(path) for path in [*paths, *([model] if model else [])] if not path.exists()]
    if missing:
        raise UsageError(
            f"{', '.join(missing)}: no such file or folder", hint="name a checkpoint, an adapter or a safetensors file"
        )
    verdicts = []
    for each, origin in [pair for path in paths for pair in _expand(path)]:
        known = with_model(origin or origin_of(each), model) if model else origin
        verdicts.append(look(each, full=not quick, origin=known))
    if as_json:
        print(json.dumps([_document(verdict) for verdict in verdicts], indent=2))
    else:
        _print(verdicts)
    if not all(verdict.ok for verdict in verdicts):
        raise typer.Exit(1)


def _expand(path: Path) -> list[tuple[Path, Any]]:
    """A folder of checkpoints stands for each checkpoint inside, and a run's folder for those and its adapter; anything
    else for itself. Each with what it comes from, where that is known here.
    """
    from stoker.recovery.checkpoint.origin import is_run, of_run, origin_of
    from stoker.recovery.checkpoint.verify import kind_of
    from stoker.supervisor.errors import UsageError
    from stoker.supervisor.paths import RunPaths

    if not path.is_dir() or kind_of(path) != "adapter":
        return [(path, None)]
    if not is_run(path):
        return _checkpoints(path) or [(path, None)]
    run, origin = RunPaths(path), of_run(path)
    whole = _checkpoints(run.checkpoints) if run.checkpoints.is_dir() else []
    adapter = Path(str(origin.config.get("adapter_path") or run.adapter))
    if any(adapter.glob("*.safetensors")):
        whole.append((adapter, origin_of(adapter).or_model_of(origin)))
    if not whole:
        raise UsageError(f"{path}: this run has neither a checkpoint nor an adapter yet", hint="see stoker status")
    return whole


def _checkpoints(folder: Path) -> list[tuple[Path, Any]]:
    from stoker.recovery.checkpoint.manifest import parse_name

    return [(each, None) for each in sorted(folder.iterdir()) if each.is_dir() and parse_name(each.name)]


def _document(verdict: Any) -> dict[str, Any]:
    return {
        "path": str(verdict.path),
        "ok": verdict.ok,
        "problems": list(verdict.problems),
        "notes": list(verdict.notes),
        "kind": verdict.kind,
        "iteration": verdict.iteration,
        "sha256": verdict.sha256,
        "model": str(verdict.model) if verdict.model else None,
        "compared": verdict.compared,
    }


def _print(verdicts: list[Any]) -> None:
    for verdict in verdicts:
        at = f", iteration {verdict.iteration}" if verdict.iteration is not None else ""
        print(f"{'ok ' if verdict.ok else 'BAD'} {verdict.path} ({verdict.kind}{at})")
        for problem in verdict.problems:
            print(f"      {problem}")
        if verdict.model:
            print(f"      compared with {verdict.model}: {verdict.compared} tensors")
        for note in verdict.notes:
            print(f"      note: {note}")
    sys.stdout.flush()
