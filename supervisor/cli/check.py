"""`stoker check`: everything that admission would say about a job file, and what would be run, without running it."""

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from stoker.profiles.estimate import DiskNeed
    from stoker.profiles.resolve import Resolved
    from stoker.supervisor.preflight import Appraisal, Check

_WIDTH = 44  # of a value in the table of the configuration


def check(
    context: typer.Context,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A job file: any mlx-lm configuration.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
) -> None:
    """Preflight without running: checks, the resolved configuration and where each value comes from, room on disk."""
    from stoker.supervisor.preflight import Surroundings, appraise
    from stoker.supervisor.settings import load_settings

    home = context.obj
    min_free = int(load_settings(home.settings).disk.min_free * 1e9)
    around = Surroundings.of(home.dir, home.run("RUN_ID").dir, min_free=min_free)
    verdict = appraise(_read(file), file=str(file), base_dir=file.absolute().parent, around=around)
    if as_json:
        print(json.dumps(_document(verdict), indent=2, default=str))
    else:
        print("\n".join(_page(verdict, file)), flush=True)
        for problem in verdict.problems:
            print(f"{problem.severity}: {problem}", file=sys.stderr)
    if not verdict.ok:
        raise typer.Exit(2)


def _read(file: Path) -> bytes:
    from stoker.profiles.yaml_positions import MAX_BYTES
    from stoker.supervisor.checks import explain_access
    from stoker.supervisor.errors import UsageError

    try:
        with file.open("rb") as source:
            return source.read(MAX_BYTES + 1)  # one more than is accepted; the message comes from the parser
    except IsADirectoryError:
        raise UsageError(f"{file} is a folder", hint="name a job file") from None
    except OSError as error:
        detail, fix = explain_access(error, file.absolute())
        raise UsageError(detail, hint=fix) from error


def _document(verdict: "Appraisal") -> dict[str, Any]:
    job, resolved, need = verdict.job, verdict.resolved, verdict.need
    document: dict[str, Any] = {
        "ok": verdict.ok,
        "errors": [problem.as_json() for problem in verdict.errors],
        "warnings": [problem.as_json() for problem in verdict.warnings],
        "checks": [one.as_json() for one in verdict.checks],
        "config": resolved.config if resolved else {},
        "provenance": resolved.provenance if resolved else {},
        "adjustments": list(resolved.adjustments) if resolved else [],
        "test": resolved.test if resolved else False,
        "name": job.name if job else None,
        "trainer": job.row.name if job else None,
        "python": verdict.defaults.python,
        "versions": dict(verdict.defaults.versions),
    }
    if resolved and resolved.every:
        document["checkpoint"] = {"every": resolved.every.as_json(), "keep": need and need.keep}
    if need:
        document["disk"] = {
            "checkpoint": need.checkpoint,
            "checkpoints": need.checkpoints_total,
            "adapter": need.adapter_total,
            "saves": need.saves,
        }
    return document


def _page(verdict: "Appraisal", file: Path) -> Iterator[str]:
    job, resolved = verdict.job, verdict.resolved
    if verdict.checks:
        yield "checks"
        yield from _table(verdict.checks)
        yield ""
    if job and resolved and verdict.ok:
        width = max(map(len, resolved.config), default=0)
        yield f"configuration of {job.name} ({job.row.about})"
        for key, value in sorted(resolved.config.items()):
            yield f"  {key:{width}}  {_value(value):{_WIDTH}}  {resolved.provenance.get(key, '')}"
        yield ""
        for change in resolved.adjustments:
            yield f"adjusted: {change['field']} {change['from']} -> {change['to']}: {change['reason']}"
        yield from _checkpoints(resolved, verdict.need)
    count = len(verdict.errors)
    if verdict.ok:
        yield f"{file}: accepted. Start it: stoker submit {file}"
    else:
        yield f"{file}: not accepted, {count} error{'' if count == 1 else 's'}"


def _table(checks: "tuple[Check, ...]") -> Iterator[str]:
    width = max(len(one.name) for one in checks)
    for one in checks:
        verdict = one.verdict.upper() if one.verdict == "fail" else one.verdict
        yield f"  {verdict:10}  {one.name:{width}}  {one.detail}"
        if one.fix and one.verdict != "pass":
            yield f"  {'':10}  {'':{width}}  -> {one.fix}"


def _checkpoints(resolved: "Resolved", need: "DiskNeed | None") -> Iterator[str]:
    from stoker.supervisor.checks import in_bytes
    from stoker.supervisor.review.format import duration

    every = resolved.every
    if every is None:
        return
    rhythm = f"{every.iterations} iterations" if every.iterations else ""
    if every.seconds:
        rhythm += f" or {duration(every.seconds)}, whichever comes first"
    size = f"; {need.keep} are kept, about {in_bytes(need.checkpoint)} each" if need else ""
    yield f"checkpoints: every {rhythm}{size}"
    if need:
        saves = f"{need.saves} x {in_bytes(need.weights)} in adapter_path"
        yield f"disk: about {in_bytes(need.checkpoints_total)} of checkpoints at the most, and {saves}"


def _value(value: Any) -> str:
    text = json.dumps(value, default=str, ensure_ascii=False)
    text = text[1:-1] if isinstance(value, str) else text
    return text if len(text) <= _WIDTH else f"{text[: _WIDTH - 3]}..."
