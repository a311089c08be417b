"""Each check of the doctor, with machines made up for it."""

import json
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from stoker.supervisor.cli.doctor import doctor as doctor_verb
from stoker.supervisor.doctor import Subject, examine
from stoker.supervisor.exactness import keep_verdict
from stoker.supervisor.host.command import Completed, run_command
from stoker.supervisor.host.daemons import is_daemon
from stoker.supervisor.host.guarded import guarded_by
from stoker.supervisor.host.packages import number, packages
from stoker.supervisor.host.power import parse_settings
from stoker.supervisor.paths import Home
from stoker.supervisor.service.spec import service_spec
from stoker.supervisor.service.state import ServiceState
from stoker.supervisor.service.systemctl import UserUnit
from stoker.supervisor.trainer.machine import Machine
from stoker.supervisor.trainer.versions import stoker_version

_PMSET = """System-wide power settings:
Currently in use:
 standby              1
 Sleep On Power Button 1
 SleepServices        0
 hibernatefile        /var/vm/sleepimage
 powernap             1
 networkoversleep     0
 disksleep            10
 sleep                1 (sleep prevented by powerd, caffeinate)
 hibernatemode        0
 ttyskeepawake        1
 displaysleep         10
 tcpkeepalive         1
 autorestart          1
 womp                 1
"""
_AC = "Now drawing from 'AC Power'\n"
_LAPTOP = (
    "Now drawing from 'Battery Power'\n -InternalBattery-0 (id=1)\t80%; discharging; 3:00 remaining present: true\n"
)


class Tools:
    """Answers of the system's tools, by the first words of the command."""

    def __init__(self, **answers):
        self.answers = {"pmset -g": _PMSET, "pmset -g batt": _AC, "sw_vers -productVersion": "26.5\n"}
        self.answers |= {"systemctl --user show": "LoadState=not-found\nActiveState=inactive\nMainPID=0\n"}
        self.answers |= answers

    def __call__(self, argv, *, timeout_s=60.0):
        line = " ".join(argv)
        matches = [name for name in self.answers if line.startswith(name)]
        return Completed(0, self.answers[max(matches, key=len)]) if matches else Completed(127, err="no such tool")


class Service:
    """A service manager that knows one answer."""

    def __init__(self, **facts):
        self.facts = {"manager": "launchd", "file": Path("/f"), "installed": True, "current": True, **facts}

    def state(self, spec):
        return ServiceState(**self.facts)


_RUNNING = {"loaded": True, "running": True, "pid": 42, "detail": "running"}


@pytest.fixture(name="home")
def _home(tmp_path):
    home = Home(tmp_path / "home")
    home.create()
    return home


@pytest.fixture(name="mac")
def _mac(home, tmp_path):
    spec = service_spec(home.dir, platform="darwin", user_home=tmp_path)
    service = Service(**_RUNNING, process_class="interactive (4)")
    system = {"platform": "darwin", "system": "Darwin 25.5.0"}
    subject = Subject(home, spec, service, user_home=tmp_path, **system, run=Tools(), processes=lambda: iter([]))
    keep_verdict(home.exactness, _verdict(subject.python, exact=True))
    return subject


def _verdict(python, *, exact):
    version, found = packages(python, run_command)
    versions = {"python": version, "mlx": found["mlx"], "mlx_lm": found["mlx-lm"], "numpy": found["numpy"]}
    machine = Machine("gpu Apple M3 Ultra", "Darwin 25.5.0", {**versions, "stoker": stoker_version()})
    return {"machine": machine.as_json(), "exact": exact, "at": "2026-11-22T12:00:00Z"}


def _found(subject, name):
    return [check for check in examine(subject) if check.name == name]


def _one(subject, name):
    (check,) = _found(subject, name)
    return check


def test_a_healthy_mac(mac):
    assert {check.level for check in examine(mac)} == {"ok"}
    assert all(check.what for check in examine(mac))


def test_everything_that_is_not_ok_has_a_fix(mac, tmp_path):
    ill = replace(
        mac,
        home=Home(tmp_path / "Documents" / "stoker"),
        manager=Service(installed=False),
        run=Tools(**{"pmset -g batt": _LAPTOP, "pmset -g": ""}),
    )
    checks = [check for check in examine(ill) if check.level != "ok"]
    assert len(checks) > 5
    assert [check for check in checks if not check.fix] == []


@pytest.mark.parametrize(("macos", "level"), [("26.5", "ok"), ("27.0", "broken"), ("28.1", "broken")])
def test_old_mlx_on_macos_27(mac, macos, level):
    python = json.dumps(["3.12.1", {"mlx": "0.32.0", "mlx-lm": "0.32.2"}])
    tools = Tools(**{"/other/python": python, "sw_vers -productVersion": macos})
    check = _one(replace(mac, python=Path("/other/python"), run=tools), "packages")
    assert check.level == level
    if level == "broken":
        assert "0.32.1" in check.what
        assert check.fix == "pip install -U mlx"


@pytest.mark.parametrize(
    ("packages", "words"),
    [
        ({}, "mlx, mlx-lm not installed"),
        ({"mlx": "0.32.4"}, "mlx-lm not installed"),
        ({"mlx": "0.32.4", "mlx-lm": "0.29.1"}, "mlx-lm 0.29.1 is older than 0.30"),
    ],
)
def test_what_the_training_interpreter_lacks(mac, packages, words):
    tools = Tools(**{"/other/python": json.dumps(["3.12.1", packages])})
    check = _one(replace(mac, python=Path("/other/python"), run=tools), "packages")
    assert check.level == "broken"
    assert words in check.what


def test_a_training_interpreter_that_does_not_exist(mac):
    check = _one(replace(mac, python=Path("/other/python")), "interpreter")
    assert check.level == "broken"
    assert "/other/python" in check.what


def test_an_old_training_interpreter(mac):
    tools = Tools(**{"/other/python": json.dumps(["3.10.4", {"mlx": "0.32.4", "mlx-lm": "0.32.2"}])})
    assert _one(replace(mac, python=Path("/other/python"), run=tools), "interpreter").level == "broken"


def test_mlx_without_a_backend_on_linux(mac):
    tools = Tools(**{"/other/python": json.dumps(["3.12.1", {"mlx": "0.32.4", "mlx-lm": "0.32.2"}])})
    linux = replace(mac, platform="linux", python=Path("/other/python"), run=tools)
    assert [check.level for check in _found(linux, "packages")] == ["ok", "broken"]


@pytest.mark.parametrize(
    ("backend", "level"), [({"mlx-cpu": "0.32.4"}, "broken"), ({"mlx-cuda-13": "0.32.4"}, "warning")]
)
def test_compiler_is_looked_for_where_the_service_looks(mac, tmp_path, backend, level):
    packages = {"mlx": "0.32.4", "mlx-lm": "0.32.2", **backend}
    tools = Tools(**{"/other/python": json.dumps(["3.12.1", packages])})
    linux = replace(mac, platform="linux", python=Path("/other/python"), run=tools)
    bare = replace(linux, spec=replace(linux.spec, environment={"PATH": str(tmp_path)}))
    assert _one(bare, "compiler").level == level
    (tmp_path / "g++").write_text("#!/bin/sh\n")
    (tmp_path / "g++").chmod(0o755)
    assert _one(bare, "compiler").level == "ok"
    assert _found(mac, "compiler") == []


def test_home_open_to_others(mac):
    mac.home.dir.chmod(0o755)
    check = _one(mac, "home")
    assert check.level == "warning"
    assert check.fix == f"chmod 700 {mac.home.dir}"


def test_home_and_inbox_that_are_not_there(mac, tmp_path):
    subject = replace(mac, home=Home(tmp_path / "nothing"))
    assert _one(subject, "home").level == "warning"
    assert _one(subject, "inbox").level == "warning"


def test_inbox_that_cannot_be_written(mac, monkeypatch):
    def refuse(**_):
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr("tempfile.NamedTemporaryFile", refuse)
    check = _one(mac, "inbox")
    assert check.level == "broken"
    assert "Operation not permitted" in check.what


def test_inbox_is_left_as_it_was(mac):
    examine(mac)
    assert list(mac.home.inbox.iterdir()) == []


@pytest.mark.parametrize(("free", "level"), [(1e9, "broken"), (10e9, "warning"), (100e9, "ok")])
def test_room(mac, monkeypatch, free, level):
    monkeypatch.setattr("stoker.supervisor.doctor.free_bytes", lambda _: int(free))
    assert _one(mac, "disk").level == level


def test_settings_that_are_wrong(mac):
    mac.home.settings.write_text("slots: many\n")
    assert _one(mac, "settings").level == "broken"


@pytest.mark.parametrize(
    ("facts", "level", "words"),
    [
        ({"installed": False}, "warning", "not installed"),
        ({"reachable": False, "detail": "No medium found"}, "broken", "No medium found"),
        ({"loaded": True, "detail": "not running", "last_end": "exit code 78", "starts": 9}, "broken", "exit code 78"),
        ({**_RUNNING, "current": False}, "warning", "another Stoker"),
        (_RUNNING, "ok", "pid 42"),
    ],
)
def test_service(mac, facts, level, words):
    check = _one(replace(mac, manager=Service(**facts)), "service")
    assert check.level == level
    assert words in check.what


def test_a_process_class_that_slows_training(mac):
    slow = replace(mac, manager=Service(**_RUNNING, process_class="background (2)"))
    check = _one(slow, "process class")
    assert check.level == "broken"
    assert check.fix == "stoker install"


@pytest.mark.parametrize(("linger", "level"), [("Linger=yes\n", "ok"), ("Linger=no\n", "warning")])
def test_lingering(mac, tmp_path, linger, level):
    tools = Tools(**{"loginctl show-user me": linger})
    manager = UserUnit(tmp_path, user="me", run=tools, linger=tmp_path)
    check = _one(replace(mac, platform="linux", manager=manager, run=tools), "lingering")
    assert check.level == level
    assert check.fix == ("" if level == "ok" else "loginctl enable-linger me")


def test_two_daemons(mac):
    lines = [(7, ["python", "-m", "stoker.supervisor", "--home", "/a", "run"]), (8, ["py", "/v/bin/stoker", "run"])]
    check = _one(replace(mac, processes=lambda: iter(lines)), "daemon")
    assert check.level == "warning"
    assert "7, 8" in check.what
    assert _one(replace(mac, processes=lambda: iter(lines[:1])), "daemon").level == "ok"


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("/v/bin/python -m stoker.supervisor --home /h run", True),
        ("/v/bin/python -P -m stoker.supervisor run --drain", True),
        ("/v/bin/python /v/bin/stoker --home=/h run", True),
        ("/v/bin/stoker run", True),
        ("/v/bin/python /v/bin/stoker --home run status", False),
        ("/v/bin/python -m stoker.supervisor status", False),
        ("/v/bin/python -m stoker.supervisor", False),
        ("vim run stoker", False),
        ("", False),
    ],
)
def test_command_lines_of_daemons(line, expected):
    assert is_daemon(line.split()) is expected


def test_privacy(mac, tmp_path):
    hidden = replace(mac, python=tmp_path / "documents" / "venv" / "bin" / "python")
    check = _one(hidden, "privacy")
    assert check.level == "warning"
    assert "Full Disk Access" in check.fix
    mac.home.settings.write_text(f"inbox: ['{tmp_path}/Desktop/jobs']\n")
    assert "Desktop" in _one(mac, "privacy").what
    assert _found(replace(mac, platform="linux"), "privacy") == []


@pytest.mark.parametrize(
    ("path", "place"),
    [
        ("/Users/me/Documents/jobs", "/Users/me/Documents"),
        ("/Users/me/documents", "/Users/me/Documents"),
        ("/Users/me/Library/Mobile Documents/x", "/Users/me/Library/Mobile Documents"),
        ("/Volumes/disk/models", "/Volumes"),
        ("/Users/me/Documentation", None),
        ("/Users/other/Documents", None),
        ("/Users/me/Library/Application Support/stoker", None),
    ],
)
def test_guarded_folders(path, place):
    assert guarded_by(Path(path), Path("/Users/me")) == (Path(place) if place else None)


@pytest.mark.parametrize(
    ("tools", "words"),
    [
        ({"pmset -g batt": _LAPTOP}, ["battery", "lid"]),
        ({"pmset -g": _PMSET.replace("displaysleep         10", "displaysleep         0")}, ["display never sleeps"]),
        ({"pmset -g": _PMSET.replace("autorestart          1", "autorestart          0")}, ["stays off"]),
        ({"pmset -g": ""}, ["did not tell"]),
    ],
)
def test_power(mac, tools, words):
    checks = _found(replace(mac, run=Tools(**tools)), "sleep")
    assert {check.level for check in checks} == {"warning"}
    assert len(checks) == len(words)
    assert all(word in check.what for word, check in zip(words, checks, strict=True))


def test_power_settings_as_pmset_prints_them():
    settings = parse_settings(_PMSET)
    assert settings["sleep"] == "1"
    assert settings["displaysleep"] == "10"
    assert settings["sleep on power button"] == "1"
    assert "hibernatefile" not in settings


@pytest.mark.parametrize(
    ("version", "numbers"), [("0.32.4", (0, 32, 4)), ("0.32.1rc2", (0, 32, 1)), ("27", (27,)), ("", ()), ("x", ())]
)
def test_versions_as_numbers(version, numbers):
    assert number(version) == numbers


def test_a_mac_on_which_nobody_has_tried_whether_runs_repeat(mac):
    assert "agree, found 2026-11-22" in _one(mac, "exactness").what
    for unknown in (replace(mac, system="Darwin 26.0.0"), replace(mac, home=Home(mac.home.dir / "other"))):
        check = _one(unknown, "exactness")
        assert (check.level, check.fix) == ("warning", "stoker doctor --exact")
        assert "nobody has tried" in check.what


def test_a_machine_on_which_runs_differ_is_named_on_linux_too(mac):
    keep_verdict(mac.home.exactness, _verdict(mac.python, exact=False))
    assert "runs differ here" in _one(mac, "exactness").what
    assert _found(replace(mac, platform="linux", system="Linux"), "exactness") == []


def test_what_was_tried_with_another_interpreter_does_not_count(mac):
    other = json.dumps(["3.12.1", {"mlx": "0.32.4", "mlx-lm": "0.32.2", "numpy": "2.4.0"}])
    check = _one(replace(mac, python=Path("/other/my python"), run=Tools(**{"/other/my python": other})), "exactness")
    assert check.fix == "stoker doctor --exact --python '/other/my python'"


@pytest.fixture(name="app")
def _app(home, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    app = typer.Typer()

    @app.callback()
    def _main(ctx: typer.Context):
        ctx.obj = home

    app.command(name="doctor")(doctor_verb)
    return app


def test_the_verb_prints_one_json_document(app):
    result = CliRunner().invoke(app, ["doctor", "--json"])
    document = json.loads(result.stdout)
    assert document["ok"] is (result.exit_code == 0)
    assert {"name", "level", "what", "fix"} == set(document["checks"][0])
    assert "home" in {check["name"] for check in document["checks"]}


def test_broken_things_are_exit_code_1(app):
    result = CliRunner().invoke(app, ["doctor", "--python", "/no/such/python"])
    assert result.exit_code == 1
    assert "broken   interpreter" in result.stdout
    assert "-> name another one with --python" in result.stdout


def test_asking_an_interpreter_imports_nothing_heavy(mac, monkeypatch):
    """Through a link, so that it is not recognised as the running one."""
    monkeypatch.delitem(sys.modules, "mlx.core", raising=False)  # another test may have trained in this process
    link = mac.home.dir / "python"
    link.symlink_to(Path(sys.executable).resolve())
    assert _one(replace(mac, python=link, run=run_command), "interpreter").level == "ok"
    assert "mlx.core" not in sys.modules
