"""The verbs against a store of dictionaries: options, JSON shapes, exit codes, what is imported."""

import json
import subprocess
import sys
import types

import pytest
import typer
from typer.testing import CliRunner

from stoker.supervisor.cli.explain import explain
from stoker.supervisor.cli.logs import logs
from stoker.supervisor.cli.runs import runs
from stoker.supervisor.cli.show import show
from stoker.supervisor.cli.status import status
from stoker.supervisor.errors import StokerError, UnknownRunError, UsageError
from stoker.supervisor.paths import Home

RUN = {"run_id", "name", "state", "attempt", "iteration", "iters", "loss", "ettr", "eta_s", "reason"}
SHOW = RUN | {"config", "exact", "adjustments", "attempts", "final"}
ATTEMPT = {
    *("n", "started_at", "ended_at", "from_iteration", "to_iteration", "resume", "checkpoint", "exit_code", "signal"),
    *("cause", "findings", "plan", "lost_iterations"),
}


@pytest.fixture(name="stoker")
def _stoker(monkeypatch, tmp_path, page, story_of):
    """Run a verb against the fixtures; return its result."""
    document, decisions = story_of

    class Reader:
        def __init__(self, home):
            assert home.dir == tmp_path

        def __enter__(self):
            return self

        def __exit__(self, *_exc):
            return None

        def status(self):
            return page

        def runs(self, states=None):
            return {"runs": [run for run in page["runs"] if states is None or run["state"] in states]}

        def find(self, reference):
            if not document["run_id"].startswith(reference):
                raise UnknownRunError(f"no run is called {reference!r}", hint="all runs: stoker runs")
            return document["run_id"]

        def show(self, run_id):
            assert run_id == document["run_id"]
            return document

        def decisions(self, _run_id):
            return decisions

    fake = types.ModuleType("stoker.supervisor.store.read")
    fake.Reader = Reader
    monkeypatch.setitem(sys.modules, "stoker.supervisor.store.read", fake)
    app = typer.Typer()
    for verb in (status, runs, show, explain, logs):
        app.command()(verb)

    def stoker(*arguments):
        result = CliRunner().invoke(app, arguments, obj=Home(tmp_path))
        if isinstance(result.exception, StokerError):
            raise result.exception
        assert result.exception is None, result.exception
        return result.stdout

    return stoker


@pytest.fixture(name="attempts")
def _attempts(tmp_path, story_of):
    """Logs of three attempts."""
    run = Home(tmp_path).run(story_of[0]["run_id"])
    for n in (1, 2, 3):
        run.attempt(n).dir.mkdir(parents=True)
        text = "".join(f"\x1b[32mattempt\x1b[0m {n} line {i}\n" for i in range(1, 151))
        run.attempt(n).log.write_text(text)
    return run


def test_status_json_is_the_readers_document(stoker, page):
    document = json.loads(stoker("status", "--json"))
    assert document == page
    assert all(set(run) >= RUN for run in document["runs"])


def test_status_in_a_pipe_shortens_nothing(stoker):
    text = stoker("status")
    assert "daemon running (pid 4242)" in text
    assert "\x1b" not in text


def test_watching_needs_a_terminal(stoker):
    with pytest.raises(UsageError, match="--watch needs a terminal"):
        stoker("status", "--watch")


def test_runs_by_state_and_number(stoker):
    assert [run["state"] for run in json.loads(stoker("runs", "--json", "-s", "held"))["runs"]] == ["held"]
    assert len(json.loads(stoker("runs", "--json", "-n", "2"))["runs"]) == 2
    assert "2 older runs" in stoker("runs", "-n", "2")
    assert "older" not in stoker("runs", "--all")
    with pytest.raises(UsageError, match="no state is called 'runing'"):
        stoker("runs", "-s", "runing")


def test_show_json_has_the_names_of_the_contract(stoker):
    document = json.loads(stoker("show", "sft", "--json"))
    assert set(document) >= SHOW
    assert all(set(attempt) >= ATTEMPT for attempt in document["attempts"])
    assert set(document["adjustments"][0]) >= {"attempt", "field", "from", "to", "reason", "preserves"}
    assert set(document["final"]) >= {"adapter", "sha256", "loss"}
    assert "Completed 60 iterations" in stoker("show", "sft")


def test_explain_reads_the_lines_around_the_evidence(stoker, attempts):
    text = stoker("explain", "sft", "-C", "1")
    assert "5 │ attempt 2 line 5" in text
    assert "7 │ attempt 2 line 7" in text
    assert "line 8" not in text
    context = json.loads(stoker("explain", "sft", "--json"))["decisions"][1]["findings"][1]["context"]
    assert context[0] == {"line": 3, "text": "attempt 2 line 3"}


def test_a_finding_in_a_foreign_place_is_not_read(stoker, attempts, story_of, tmp_path):
    (tmp_path / "secret").write_text("secret\n" * 9)
    for name in (str(tmp_path / "secret"), "../../../../secret", "..", ""):
        story_of[1][1]["findings"][1]["file"] = name
        assert "secret\n" not in stoker("explain", "sft")
        context = json.loads(stoker("explain", "sft", "--json"))["decisions"][1]["findings"][1]["context"]
        assert context == []


@pytest.mark.parametrize("verb", ["show", "explain", "logs"])
def test_an_unknown_run_is_exit_code_4(stoker, verb):
    with pytest.raises(UnknownRunError) as error:
        stoker(verb, "nothing")
    assert error.value.exit_code == 4


def test_logs_of_the_newest_attempt_and_of_others(stoker, attempts):
    assert stoker("logs", "sft").splitlines() == [f"attempt 3 line {i}" for i in range(51, 151)]
    assert stoker("logs", "sft", "--attempt", "-1", "-n", "1") == "attempt 2 line 150\n"
    assert stoker("logs", "sft", "--attempt", "1", "-n", "1") == "attempt 1 line 150\n"
    assert stoker("logs", "sft", "--attempt", "-2", "-n", "1") == "attempt 1 line 150\n"
    assert stoker("logs", "sft", "--grep", "line 1$") == "attempt 3 line 1\n"
    assert stoker("logs", "sft", "-n", "1", "--raw") == "\x1b[32mattempt\x1b[0m 3 line 150\n"
    for wrong in ("4", "-3"):
        with pytest.raises(UsageError, match="has no attempt"):
            stoker("logs", "sft", "--attempt", wrong)
    with pytest.raises(UsageError, match="not a regular expression"):
        stoker("logs", "sft", "--grep", "(")


def test_logs_json_counts_the_lines(stoker, attempts):
    document = json.loads(stoker("logs", "sft", "-n", "1", "--json"))
    assert document["attempt"] == 3
    assert document["file"].endswith("attempts/3/train.log")
    assert document["lines"] == [{"line": 150, "text": "attempt 3 line 150"}]


def test_following_an_ended_run_prints_its_end_and_stops(stoker, attempts):
    assert stoker("logs", "sft", "-f", "-n", "2").splitlines() == ["attempt 3 line 149", "attempt 3 line 150"]
    rows = [json.loads(line) for line in stoker("logs", "sft", "-f", "-n", "2", "--json").splitlines()]
    assert rows[0] == {"attempt": 3, "line": 149, "text": "attempt 3 line 149"}
    assert len(stoker("logs", "sft", "-f", "--attempt", "1").splitlines()) == 100


def test_logs_of_a_run_without_attempts_says_so(stoker):
    with pytest.raises(StokerError, match="no attempt was made"):
        stoker("logs", "sft")


def test_the_quick_verbs_import_nothing_heavy():
    """`stoker status` is budgeted in milliseconds: rich, pydantic and structlog alone would spend them."""
    code = (
        "import sys\n"
        "import stoker.supervisor.cli.status, stoker.supervisor.cli.runs, stoker.supervisor.cli.show\n"
        "import stoker.supervisor.cli.explain, stoker.supervisor.cli.logs\n"
        "import stoker.supervisor.review.document, stoker.supervisor.review.status, stoker.supervisor.review.course\n"
        "import stoker.supervisor.review.console, stoker.supervisor.review.runs, stoker.supervisor.review.overview\n"
        "heavy = {'rich', 'pydantic', 'structlog', 'yaml', 'mlx', 'numpy', 'psutil'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_a_latin_1_terminal_gets_question_marks_not_a_traceback():
    code = (
        "from stoker.supervisor.review.console import say, show\n"
        "from rich.text import Text\n"
        "say('bar \\u2588'); show(Text('arrow \\u2192'))\n"
    )
    environment = {"PYTHONIOENCODING": "latin-1", "PATH": "/usr/bin:/bin"}
    done = subprocess.run([sys.executable, "-c", code], check=True, timeout=60, capture_output=True, env=environment)
    assert done.stdout == b"bar ?\narrow ?\n"


def test_the_quick_way_reads_plain_forms_only(stoker, page, tmp_path, capsys, monkeypatch):
    from stoker.supervisor.cli.quick import quick

    monkeypatch.setenv("STOKER_HOME", str(tmp_path))
    for words in (["status"], ["--home", str(tmp_path), "status"], [f"--home={tmp_path}", "status"]):
        assert quick(words)
        assert capsys.readouterr().out == stoker("status")
    assert quick(["status", "--json"])
    assert json.loads(capsys.readouterr().out) == page
    for words in ([], ["status", "--watch"], ["status", "x"], ["runs"], ["--home", "status"], ["--home=", "status"]):
        assert not quick(words)
    assert capsys.readouterr().out == ""


def test_the_quick_way_imports_nothing_heavy(tmp_path):
    code = (
        "import sys\n"
        "from stoker.supervisor.cli.quick import quick\n"
        "for form in (['status'], ['status', '--json']):\n"
        "    assert quick(['--home', sys.argv[1], *form])\n"
        "heavy = {'typer', 'rich', 'pydantic', 'structlog', 'yaml', 'mlx', 'numpy', 'psutil'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=True, timeout=60, capture_output=True)
