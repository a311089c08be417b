"""The property list and the unit: what is in them, and that strange paths arrive unchanged."""

import configparser
import os
import plistlib
import re
import shutil
import subprocess
import sys
from pathlib import Path
from xml.parsers.expat import ExpatError

import pytest

from stoker.supervisor.errors import UsageError
from stoker.supervisor.service import launchd, systemd
from stoker.supervisor.service.spec import service_spec

_ODD = "/Users/m & m/Über <all> 100% $HOME 'q' \"d\" \\x/stoker"

needs_analyze = pytest.mark.skipif(
    shutil.which("systemd-analyze") is None, reason="systemd-analyze is not installed (apt: systemd)"
)


def _mac(home="/Users/me/Library/Application Support/stoker", python="/Users/me/venv/bin/python"):
    return service_spec(Path(home), python=python, platform="darwin", user_home=Path("/Users/me"))


def _linux(home, python=sys.executable):
    return service_spec(Path(home), python=python, platform="linux")


def test_every_key_of_the_property_list():
    """Each value stands here for its reason in the template; a change of one is a change of behaviour on every Mac."""
    assert plistlib.loads(launchd.render(_mac())) == {
        "Label": "io.github.stoker.stoker",
        "ProgramArguments": [
            "/Users/me/venv/bin/python",
            "-m",
            "stoker.supervisor",
            "--home",
            "/Users/me/Library/Application Support/stoker",
            "run",
        ],
        "WorkingDirectory": "/Users/me/Library/Application Support/stoker",
        "RunAtLoad": True,
        "KeepAlive": {"SuccessfulExit": False},
        "ThrottleInterval": 30,
        "ExitTimeOut": 60,
        "AbandonProcessGroup": True,
        "ProcessType": "Interactive",
        "LimitLoadToSessionType": ["Aqua", "Background"],
        "SoftResourceLimits": {"NumberOfFiles": 8192},
        "HardResourceLimits": {"NumberOfFiles": 65536},
        "Umask": 0o077,
        "EnvironmentVariables": {
            "PATH": "/opt/homebrew/bin:/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin",
            "PYTHONUNBUFFERED": "1",
            "PYTHONUTF8": "1",
        },
        "StandardOutPath": "/Users/me/Library/Logs/stoker/launchd.out.log",
        "StandardErrorPath": "/Users/me/Library/Logs/stoker/launchd.err.log",
    }


def test_property_list_survives_a_round_trip_and_odd_paths():
    data = plistlib.loads(launchd.render(_mac(_ODD, f"{_ODD}/bin/python")))
    assert plistlib.loads(plistlib.dumps(data)) == data
    assert data["WorkingDirectory"] == _ODD
    assert data["ProgramArguments"][0] == f"{_ODD}/bin/python"
    assert data["ProgramArguments"][4] == _ODD


def test_a_broken_template_is_found_before_launchd_sees_it(monkeypatch):
    monkeypatch.setattr(launchd, "_text", lambda value: value)
    with pytest.raises(ExpatError):
        launchd.render(_mac(_ODD))


def test_every_key_of_the_unit():
    text = systemd.render(_linux("/home/me/state/stoker", "/home/me/venv/bin/python")).decode()
    unit = configparser.RawConfigParser(strict=False)
    unit.optionxform = str
    unit.read_string(text)
    assert dict(unit["Unit"]) == {
        "Description": "Stoker keeps MLX training running",
        "StartLimitIntervalSec": "0",
    }
    service = dict(unit["Service"])
    service.pop("Environment")
    assert service == {
        "Type": "notify",
        "NotifyAccess": "main",
        "ExecStart": ':"/home/me/venv/bin/python" "-m" "stoker.supervisor" "--home" "/home/me/state/stoker" "run"',
        "WorkingDirectory": "/home/me/state/stoker",
        "UMask": "0077",
        "Restart": "on-failure",
        "RestartSec": "10",
        "WatchdogSec": "60",
        "TimeoutStartSec": "300",
        "TimeoutStopSec": "90",
        "KillMode": "process",
        "OOMPolicy": "continue",
    }
    assert re.findall(r'^Environment="(\w+)=(.*)"$', text, re.MULTILINE) == [
        ("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"),
        ("PYTHONUNBUFFERED", "1"),
        ("PYTHONUTF8", "1"),
    ]
    assert dict(unit["Install"]) == {"WantedBy": "default.target"}


def _verify(path, *, user):
    """Return what systemd has to say about a unit; its exit status is 0 even for keys that it does not know."""
    scope = ["--user"] if user else []
    done = subprocess.run(
        ["systemd-analyze", *scope, "verify", str(path)],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "XDG_RUNTIME_DIR": str(path.parent), "LC_ALL": "C"},
    )
    return done.stderr or f"{done.stdout}{done.returncode or ''}"


@pytest.fixture(name="unit")
def _unit(tmp_path):
    """A unit with an odd home and an odd interpreter, which exist: systemd looks."""
    home = tmp_path / "odd %h $HOME 'q' \"d\" \\x ü; #"
    programs = tmp_path / "bin %h $HOME ü"
    home.mkdir()
    programs.mkdir()
    python = programs / "py thon"
    python.symlink_to(sys.executable)
    path = tmp_path / "stoker.service"
    path.write_bytes(systemd.render(_linux(home, str(python))))
    return path


@needs_analyze
@pytest.mark.parametrize("user", [True, False])
def test_systemd_has_nothing_to_say_about_the_unit(unit, user):
    assert _verify(unit, user=user) == ""


@needs_analyze
@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        ("KillMod=process", "KillMod"),
        ("RestartMaxDelaySec=60s60", "RestartMaxDelaySec"),  # unknown before 254, no time span since
        ("StartLimitIntervalSec=0", "StartLimitIntervalSec"),  # of [Unit]
        ("ExecStartPre=/no/such/program", "not executable"),
    ],
)
def test_a_planted_mistake_is_heard(unit, line, complaint):
    """The test above is worth something only if systemd complains at all."""
    unit.write_text(unit.read_text().replace("UMask=0077", line))
    assert complaint in _verify(unit, user=True)


@pytest.mark.parametrize(
    ("value", "word"),
    [
        ("plain", '"plain"'),
        ("with space", '"with space"'),
        ("100%", '"100%%"'),
        ('a "b"', '"a \\"b\\""'),
        ("back\\slash", '"back\\\\slash"'),
        ("$HOME", '"$HOME"'),
    ],
)
def test_words_of_a_unit(value, word):
    assert systemd.quoted(value) == word


@pytest.mark.parametrize(
    ("home", "python"),
    [
        ("/home/me/a\nExecStartPre=/bin/evil", "/usr/bin/python3"),
        ("/home/me/trailing ", "/usr/bin/python3"),
        ("/home/me/continued\\", "/usr/bin/python3"),
        ("/home/me", "python3"),
        ("/home/me", "/opt/it's/python3"),
    ],
)
def test_paths_that_no_service_file_can_carry_are_refused(home, python):
    with pytest.raises(UsageError) as refused:
        systemd.render(_linux(home, python))
    assert refused.value.hint


def test_the_interpreter_is_not_resolved(tmp_path):
    """Behind the link of a virtual environment stands a Python that does not know Stoker."""
    link = tmp_path / "python"
    link.symlink_to("/usr/bin/python3")
    assert _linux(tmp_path, str(link)).argv[0] == str(link)
