import json
import os
import stat
import sys
import venv
from pathlib import Path

import pytest

from stoker.supervisor.probe import ProbeError, trainer_defaults

PYTHON = Path(sys.executable)


def fake(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return path


@pytest.fixture
def bare(tmp_path):
    """An interpreter with nothing installed, and the folder where packages would be."""
    venv.create(tmp_path / "venv", with_pip=False, symlinks=True)
    return tmp_path / "venv" / "bin" / "python", next((tmp_path / "venv" / "lib").glob("python*/site-packages"))


def install(site: Path, *, defaults: str, version: str = "0.31.0"):
    """Put packages there that would fail if they were imported."""
    for name, dist in (("mlx", "mlx"), ("mlx_lm", "mlx_lm"), ("numpy", "numpy")):
        (site / name).mkdir()
        if name != "mlx":  # a namespace package, as mlx is
            (site / name / "__init__.py").write_text("raise SystemExit('imported')\n", encoding="utf-8")
        info = site / f"{dist}-{version}.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {dist}\nVersion: {version}\n", encoding="utf-8")
    (site / "mlx_lm" / "lora.py").write_text(defaults, encoding="utf-8")
    (site / "mlx" / "optimizers").mkdir()
    (site / "mlx" / "optimizers" / "schedulers.py").write_text(
        "def join_schedules(): 0\ndef wave(): 0\n", encoding="utf-8"
    )


def test_this_interpreter(tmp_path):
    found = trainer_defaults(PYTHON, tmp_path)
    assert found.config_defaults["num_layers"] == 16
    assert found.config_defaults["lora_parameters"]["scale"] == pytest.approx(20.0)
    assert found.versions["python"] == ".".join(map(str, sys.version_info[:3]))
    assert all(found.versions[name] for name in ("mlx", "mlx_lm", "numpy"))
    assert found.python == str(PYTHON)
    assert "cosine_decay" in found.schedules
    assert "join_schedules" not in found.schedules
    assert found.label == f"mlx-lm {found.versions['mlx_lm']}"


def test_nothing_is_imported_there(bare, tmp_path):
    python, site = bare
    install(site, defaults="import mlx.core\nraise SystemExit('imported')\nCONFIG_DEFAULTS: dict = {'iters': 7}\n")
    found = trainer_defaults(python, tmp_path / "cache")
    assert found.config_defaults == {"iters": 7}
    assert found.schedules == ("wave",)
    assert found.packages == frozenset()


def test_the_answer_is_kept_until_something_changes(bare, tmp_path):
    python, site = bare
    install(site, defaults="CONFIG_DEFAULTS = {'iters': 7}\n")
    cache = tmp_path / "cache"
    trainer_defaults(python, cache)
    (kept,) = cache.iterdir()
    record = json.loads(kept.read_text(encoding="utf-8"))
    record["answer"]["config_defaults"] = {"iters": 8}
    kept.write_text(json.dumps(record), encoding="utf-8")
    assert trainer_defaults(python, cache).config_defaults == {"iters": 8}  # from the cache
    (site / "wandb").mkdir()
    (site / "wandb" / "__init__.py").touch()
    found = trainer_defaults(python, cache)
    assert (found.config_defaults, found.packages) == ({"iters": 7}, frozenset({"wandb"}))
    (site / "mlx_lm" / "lora.py").write_text("CONFIG_DEFAULTS = {'iters': 9}\n", encoding="utf-8")
    assert trainer_defaults(python, cache).config_defaults == {"iters": 9}


@pytest.mark.parametrize("text", ["", "{", "[]", '{"v": 1}', '{"v": 1, "answer": {}, "stamps": {"/nowhere": [1]}}'])
def test_a_damaged_cache_is_asked_again(bare, tmp_path, text):
    python, site = bare
    install(site, defaults="CONFIG_DEFAULTS = {'iters': 7}\n")
    trainer_defaults(python, tmp_path / "cache")
    (kept,) = (tmp_path / "cache").iterdir()
    kept.write_text(text, encoding="utf-8")
    assert trainer_defaults(python, tmp_path / "cache").config_defaults == {"iters": 7}


def test_two_environments_of_one_interpreter_are_told_apart(bare, tmp_path):
    python, site = bare
    install(site, defaults="CONFIG_DEFAULTS = {'iters': 7}\n")
    venv.create(tmp_path / "other", with_pip=False, symlinks=True)
    trainer_defaults(python, tmp_path / "cache")
    with pytest.raises(ProbeError, match="has no mlx"):
        trainer_defaults(tmp_path / "other" / "bin" / "python", tmp_path / "cache")


def test_a_cache_that_cannot_be_written_is_done_without(bare, tmp_path):
    python, site = bare
    install(site, defaults="CONFIG_DEFAULTS = {'iters': 7}\n")
    (tmp_path / "file").touch()
    assert trainer_defaults(python, tmp_path / "file" / "cache").config_defaults == {"iters": 7}


def test_what_is_missing_and_how_to_install_it(bare, tmp_path):
    python, _ = bare
    with pytest.raises(ProbeError, match="has no mlx, mlx-lm, numpy") as caught:
        trainer_defaults(python, tmp_path / "cache")
    assert f"{python} -m pip install 'mlx-lm>=0.30'" in caught.value.hint
    assert caught.value.exit_code == 2
    assert trainer_defaults(python, tmp_path / "cache", needs_mlx_lm=False).versions["mlx_lm"] is None


def test_defaults_that_cannot_be_read(bare, tmp_path):
    python, site = bare
    install(site, defaults="CONFIG_DEFAULTS = dict(iters=make())\n")
    with pytest.raises(ProbeError, match=r"CONFIG_DEFAULTS from .*lora\.py"):
        trainer_defaults(python, tmp_path / "cache")


def test_the_folder_of_the_caller_is_not_searched(bare, tmp_path, monkeypatch):
    python, _ = bare
    (tmp_path / "mlx_lm").mkdir()
    (tmp_path / "mlx_lm" / "__init__.py").touch()
    (tmp_path / "json.py").write_text("raise SystemExit('imported')\n", encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with pytest.raises(ProbeError, match="mlx-lm"):
        trainer_defaults(python, tmp_path / "cache")


class TestNoInterpreter:
    def refused(self, python, tmp_path, part, **kwargs):
        with pytest.raises(ProbeError, match=part) as caught:
            trainer_defaults(python, tmp_path / "cache", **kwargs)
        assert caught.value.hint

    def test_missing(self, tmp_path):
        self.refused(tmp_path / "python", tmp_path, "there is no interpreter")

    def test_a_folder(self, tmp_path):
        self.refused(tmp_path, tmp_path, "is a folder")

    def test_a_link_to_nothing(self, tmp_path):
        (tmp_path / "python").symlink_to(tmp_path / "gone")
        self.refused(tmp_path / "python", tmp_path, "link to")

    def test_not_executable(self, tmp_path):
        (tmp_path / "python").touch(mode=0o644)
        self.refused(tmp_path / "python", tmp_path, "may not be executed")

    def test_no_program(self, tmp_path):
        self.refused(fake(tmp_path / "python", "\x00\x01\x02"), tmp_path, "no program for this machine")

    def test_another_program(self, tmp_path):
        self.refused(fake(tmp_path / "python", "#!/bin/sh\necho no >&2\nexit 3\n"), tmp_path, r"exit status 3\): no")

    def test_a_program_that_says_something_else(self, tmp_path):
        self.refused(fake(tmp_path / "python", "#!/bin/sh\necho 3.11\n"), tmp_path, "cannot be used")

    def test_one_that_hangs(self, tmp_path):
        script = fake(tmp_path / "python", "#!/bin/sh\nexec sleep 60\n")
        self.refused(script, tmp_path, "did not answer", timeout_s=0.3)

    @pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
    def test_below_a_closed_folder(self, tmp_path):
        (tmp_path / "closed").mkdir(mode=0)
        self.refused(tmp_path / "closed" / "python", tmp_path, "may not be executed")
