"""`stoker check`: everything that admission would say about a job file, and what would be run, without running it."""

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from stoker.profiles.estimate import DiskNeed
    from stoker.profiles.resolve import Cadence
    from stoker.supervisor.preflight import Appraisal, Check
    from stoker.supervisor.settings import Settings

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
    settings = load_settings(home.settings)
    around = Surroundings.of(home.dir, home.run("RUN_ID").dir, min_free=settings.min_free_bytes)
    verdict = appraise(_read(file), file=str(file), base_dir=file.absolute().parent, around=around)
    if as_json:
        print(json.dumps(_document(verdict, settings), indent=2, default=str))
    else:
        print("\n".join(_page(verdict, settings, file)), flush=True)
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


def _document(verdict: "Appraisal", settings: "Settings") -> dict[str, Any]:
    from stoker.profiles.estimate import budget_interval

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
        document["checkpoint"] = {
            "every": resolved.every.as_json(),
            "keep": need and need.keep,
            "bytes": need and need.checkpoint,
            "budget_interval_s": need and budget_interval(need, settings.write_per_s),
        }
    if need:
        document["disk"] = {
            "checkpoint": need.checkpoint,
            "checkpoints": need.checkpoints_total,
            "checkpoints_at_most": need.checkpoints,
            "adapter": need.adapter_total,
            "saves": need.saves,
            "save": need.weights,
            "min_free": settings.min_free_bytes,
            "write_budget": settings.write_budget * 1e12,
        }
    return document


def _page(verdict: "Appraisal", settings: "Settings", file: Path) -> Iterator[str]:
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
        if resolved.every:
            yield from _checkpoints(resolved.every, verdict.need, settings)
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


def _checkpoints(every: "Cadence", need: "DiskNeed | None", settings: "Settings") -> Iterator[str]:
    from stoker.supervisor.checks import in_bytes
    from stoker.supervisor.machine_checks import kept_words
    from stoker.supervisor.review.format import count, duration, plural

    rhythm = plural(every.iterations, "iteration") if every.iterations else ""
    if every.seconds:
        rhythm = f"{duration(every.seconds)} or {rhythm}, whichever comes first"
    yield f"checkpoints: {'auto: ' if every.auto else ''}every {rhythm}"
    if need is None:
        return
    size = in_bytes(need.checkpoint)
    yield from (f"  {line}" for line in _budget(every, need, settings))
    most = f"{need.checkpoints} of {size} = {in_bytes(need.checkpoints_total)}"
    yield f"  on the disk: at the most {most} ({kept_words(need)})"
    saves = f"{count(need.saves)} x {in_bytes(need.weights)} = {in_bytes(need.adapter_total)}"
    yield f"saves in adapter_path: {saves} in all (save_every, and the final one)"


def _budget(every: "Cadence", need: "DiskNeed", settings: "Settings") -> Iterator[str]:
    """Say what the write budget makes of the rhythm."""
    from stoker.profiles.estimate import budget_interval
    from stoker.supervisor.checks import in_bytes
    from stoker.supervisor.review.format import duration

    apart = budget_interval(need, settings.write_per_s)
    if apart is None:
        return
    budget = f"the write budget of {settings.write_budget:g} TB a day"
    sooner = bool(every.seconds) and (every.seconds or 0.0) < apart
    farther = ", so they are at least that far apart" if every.auto and sooner else ""
    yield f"at {in_bytes(need.checkpoint)} each {budget} allows one every {duration(apart)}{farther}"
    if sooner and not every.auto:
        yield f"every {duration(every.seconds)} is more than that: `every: auto` keeps to the budget"


def _value(value: Any) -> str:
    text = json.dumps(value, default=str, ensure_ascii=False)
    text = text[1:-1] if isinstance(value, str) else text
    return text if len(text) <= _WIDTH else f"{text[: _WIDTH - 3]}..."
