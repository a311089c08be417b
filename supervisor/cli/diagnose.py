"""`stoker diagnose LOG`: the classifier on any log file, with which rules matched where."""

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from stoker.recovery.diagnose import Diagnosis
    from stoker.supervisor.excerpt import Excerpt


def diagnose(
    log: Annotated[
        str, typer.Argument(metavar="LOG", help="A trainer's output (stdout and stderr together); - = stdin.")
    ],
    exit_code: Annotated[
        int | None, typer.Option("--exit-code", help="What it ended with; 137 and -9 both mean SIGKILL.")
    ] = None,
    signal: Annotated[
        str | None, typer.Option("--signal", help="The signal that ended it: SIGKILL, KILL or 9.")
    ] = None,
    running: Annotated[bool, typer.Option("--running", help="The process is still there but went quiet.")] = False,
    rules: Annotated[Path | None, typer.Option("--rules", metavar="FILE", help="Your own rules, tried first.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
) -> None:
    """Why a training ended: the cause, the lines that prove it, whether to try again, and what to do."""
    from stoker.recovery.diagnose import diagnose as decide
    from stoker.recovery.evidence import Evidence
    from stoker.recovery.rules import RulesError, load_rules
    from stoker.supervisor.errors import UsageError

    if running and (exit_code is not None or signal is not None):
        raise UsageError("--running excludes --exit-code and --signal", hint="a process that ended is not running")
    try:
        in_effect = load_rules(rules)
    except RulesError as error:
        raise UsageError(str(error), hint="correct the row, or leave out --rules") from error
    excerpt = _read(log)
    evidence = Evidence(
        log=excerpt.text,
        log_name="-" if log == "-" else log,
        exit_code=exit_code,
        signal=signal,
        running=running,
        skipped=excerpt.skipped,
    )
    diagnosis = decide(evidence, in_effect)
    if as_json:
        print(json.dumps(_document(diagnosis), indent=2, ensure_ascii=False))
    else:
        _print(diagnosis)


def _read(log: str) -> "Excerpt":
    import shutil
    import tempfile

    from stoker.supervisor.errors import UsageError
    from stoker.supervisor.excerpt import read_excerpt, take_excerpt

    if log != "-":
        try:
            return read_excerpt(Path(log).expanduser())
        except OSError as error:
            raise UsageError(
                f"{log}: cannot be read: {error.strerror}", hint="name a log file, or - for stdin"
            ) from error
    with tempfile.TemporaryFile() as copy:  # a pipe cannot be read from its end
        shutil.copyfileobj(sys.stdin.buffer, copy)
        return take_excerpt(copy)


def _document(diagnosis: "Diagnosis") -> dict[str, Any]:
    return {
        "cause": diagnosis.cause,
        "confidence": diagnosis.confidence,
        "findings": [
            {
                "rule": found.rule,
                "file": found.file,
                "line": found.line,
                "text": found.text,
                "cause": found.cause,
                "role": found.role,
                "simulated": found.simulated,
            }
            for found in diagnosis.findings
        ],
        "retryable": diagnosis.retryable,
        "advice": diagnosis.advice,
        "onset": diagnosis.onset,
        "fingerprint": diagnosis.fingerprint,
        "simulated": diagnosis.simulated,
    }


def _print(diagnosis: "Diagnosis") -> None:
    import textwrap

    drill = ", simulated by a drill" if diagnosis.simulated else ""
    print(f"cause      {diagnosis.cause} (confidence {diagnosis.confidence:.2f}{drill})")
    print(f"try again  {_AGAIN[diagnosis.retryable]}")
    if diagnosis.onset is not None:
        print(f"since      iteration {diagnosis.onset}")
    print(textwrap.fill(diagnosis.advice, width=100, initial_indent="advice     ", subsequent_indent=" " * 11))
    if not diagnosis.findings:
        print("findings   none")
        return
    print("findings   (the first one decides)")
    rows = [
        (found.rule, f"{found.file}:{found.line}" if found.line else found.file, found.text)
        for found in diagnosis.findings
    ]
    rule_width, place_width = (max(len(row[i]) for row in rows) for i in (0, 1))
    for rule, place, text in rows:
        print(f"  {rule:<{rule_width}}  {place:<{place_width}}  {textwrap.shorten(text, 160, placeholder=' ...')}")


_AGAIN = {"yes": "yes", "no": "no", "adjusted": "yes, with another configuration or checkpoint"}
