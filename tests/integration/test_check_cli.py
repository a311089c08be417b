import json
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from stoker.supervisor.cli.check import check
from stoker.supervisor.demo.tiny import make_tiny
from stoker.supervisor.errors import UsageError
from stoker.supervisor.paths import Home


@pytest.fixture
def run(tmp_path):
    app = typer.Typer()
    app.callback()(lambda context: setattr(context, "obj", Home(tmp_path / "home")))

    @app.callback()
    def home(context: typer.Context):
        context.obj = Home(tmp_path / "home")

    app.command()(check)
    make_tiny(tmp_path)

    def invoke(text, *options):
        (tmp_path / "job.yaml").write_text(text, encoding="utf-8")
        return CliRunner().invoke(app, ["check", str(tmp_path / "job.yaml"), *options])

    return invoke


GOOD = "model: model\ndata: ./data\nfine_tune_type: full\niters: 60\n"


def test_a_good_job(run):
    result = run(GOOD)
    assert result.exit_code == 0
    assert "accepted" in result.stdout
    assert "stoker: all 4 layers of config.json" in result.stdout
    assert "checkpoints: auto: every 15m or 3 iterations, whichever comes first" in result.stdout
    assert "the write budget of 2 TB a day allows one every" in result.stdout
    assert result.stderr == ""


def test_a_good_job_as_json(run):
    result = run(GOOD + "strange: 1\n", "--json")
    document = json.loads(result.stdout)
    assert (result.exit_code, document["ok"], document["errors"]) == (0, True, [])
    assert document["config"]["num_layers"] == 4
    assert document["provenance"]["num_layers"].startswith("stoker:")
    assert {"name", "verdict", "detail", "fix"} == set(document["checks"][0])
    assert document["warnings"][0]["line"] == 5
    assert document["checkpoint"]["every"] == {"iterations": 3, "seconds": 900.0, "auto": True}
    assert document["disk"]["checkpoint"] > 0


def test_all_problems_go_to_stderr_with_their_place(run, tmp_path):
    result = run("model: model\ndata: ./data\nitres: 5\niters: x\n")
    assert result.exit_code == 2
    lines = result.stderr.splitlines()
    assert lines[0] == f"error: {tmp_path}/job.yaml:3:1: itres: unknown key (did you mean iters?)"
    assert lines[1].startswith(f"error: {tmp_path}/job.yaml:4:8: iters: expected a whole number")
    assert "not accepted, 2 errors" in result.stdout


def test_failed_checks_too(run):
    result = run(GOOD + "batch_size: 5000\n", "--json")
    document = json.loads(result.stdout)
    assert (result.exit_code, document["ok"]) == (2, False)
    (error,) = document["errors"]
    assert set(error) == {"file", "line", "column", "message", "nearest"}
    assert (error["line"], error["column"]) == (5, 13)
    assert document["config"]["batch_size"] == 5000


def test_values_of_env_are_not_shown(run):
    for options in ([], ["--json"]):
        result = run(GOOD + "stoker: {env: {TOKEN: secret-7}}\n", *options)
        assert result.exit_code == 0
        assert "secret-7" not in result.output


def test_a_file_that_is_not_there():
    app = typer.Typer()
    app.command()(check)
    for path in (Path("/nowhere/job.yaml"), Path("/")):
        with pytest.raises(UsageError):
            CliRunner().invoke(app, [str(path)], obj=Home(Path("/nowhere")), catch_exceptions=False)
