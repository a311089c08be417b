"""`stoker install` and `stoker uninstall` as a person sees them, on a machine where no service manager answers."""

import sys

import pytest
import typer
from typer.testing import CliRunner

from stoker.supervisor.cli.install import install
from stoker.supervisor.cli.uninstall import uninstall
from stoker.supervisor.paths import Home

pytestmark = pytest.mark.skipif(sys.platform == "darwin", reason="must not touch a real launchd")


@pytest.fixture(name="stoker")
def _stoker(tmp_path, monkeypatch):
    """Runs a verb with a home and a person of its own; PATH has no systemctl."""
    monkeypatch.setenv("HOME", str(tmp_path / "me"))
    monkeypatch.setenv("PATH", str(tmp_path))
    app = typer.Typer()

    @app.callback()
    def _main(ctx: typer.Context):
        ctx.obj = Home(tmp_path / "home")

    app.command(name="install")(install)
    app.command(name="uninstall")(uninstall)
    return lambda *words: CliRunner().invoke(app, list(words))


def test_dry_run_shows_all_and_changes_nothing(stoker, tmp_path):
    result = stoker("install", "--dry-run")
    assert result.exit_code == 0
    assert "systemctl --user enable --now stoker.service" in result.stdout
    assert "KillMode=process" in result.stdout
    assert list(tmp_path.iterdir()) == []


def test_install_without_a_service_manager_says_so_and_fails(stoker, tmp_path):
    result = stoker("install")
    assert result.exit_code == 1
    assert f"wrote {tmp_path / 'me' / '.config' / 'systemd' / 'user' / 'stoker.service'}" in result.stdout
    assert "stoker: NOT started" in result.stderr
    assert (tmp_path / "me" / "Stoker" / "inbox").is_dir()
    again = stoker("install")
    assert again.exit_code == 1
    assert "nothing to do" in again.stdout


def test_uninstall_leaves_home_and_runs_and_says_so(stoker, tmp_path):
    stoker("install")
    kept = tmp_path / "home" / "runs" / "sft_20260213_1430" / "job.yaml"
    kept.parent.mkdir()
    kept.write_text("iters: 10\n")
    result = stoker("uninstall")
    assert result.exit_code == 0
    assert f"{tmp_path / 'home'} is untouched, with all its runs" in result.stdout
    assert kept.read_text() == "iters: 10\n"
    again = stoker("uninstall")
    assert again.exit_code == 0
    assert "no service was installed" in again.stdout
