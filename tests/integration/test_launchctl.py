"""Install and uninstall with a stand-in for launchctl on PATH, which behaves as reported of the real one.

`bootout` returns while the job is still being ended; a `bootstrap` before the label is free, or of a label that is
loaded or disabled, answers "5: Input/output error"; without a desktop login `gui/UID` answers 125; after `bootstrap` a
job may wait for `kickstart`.
"""

import json
import os
import plistlib
import sys
from pathlib import Path

import pytest

from stoker.supervisor.host.command import Patience
from stoker.supervisor.paths import Home
from stoker.supervisor.service import launchd
from stoker.supervisor.service.launchctl import LaunchAgent, parse_print
from stoker.supervisor.service.manager import install, preview, uninstall
from stoker.supervisor.service.spec import service_spec
from stoker.supervisor.service.state import ServiceError

_LABEL = "io.github.stoker.stoker"
_LAUNCHCTL = """#!{python} -IS
import json, pathlib, sys
file = pathlib.Path({state!r})
w = json.loads(file.read_text())
w["log"].append(" ".join(sys.argv[1:]))

def end(code, text=""):
    file.write_text(json.dumps(w))
    print(text, file=sys.stderr if code else sys.stdout)
    sys.exit(code)

verb, where = sys.argv[1:3]
domain, _, label = where.partition("/{label}")
gui = domain.startswith("gui/")
if gui and not w["desktop"]:
    end(125, "Domain does not support specified action")
job = w["jobs"].get(domain)
if verb == "print" and where == domain:
    end(0, domain + " = {{\\n}}")
if verb == "print":
    if job and job["state"] == "SIGTERMed":
        job["prints_left"] -= 1
        if job["prints_left"] < 0:
            del w["jobs"][domain]
            w["label_taken"] = w["slow_label"]
            job = None
    if not job:
        end(113, "Could not find service")
    lines = ["active count = 1", "state = " + job["state"], "arguments = {{", "\\tpid = 1", "}}", "runs = 3"]
    lines += ["pid = 4711"] if job["state"] == "running" else []
    lines += ["last exit code = " + w["last_exit"], "resource coalition = {{", "\\tstate = active", "}}"]
    end(0, "\\n\\t".join([where + " = {{", *lines, "spawn type = " + w["spawn"]]) + "\\n}}")
if verb == "bootout":
    if not job:
        end(3, "Boot-out failed: 3: No such process")
    job.update(state="SIGTERMed", prints_left=w["slow_bootout"])
    end(0)
if verb == "enable":
    w["disabled"] = False
    end(0)
if verb == "bootstrap":
    if w["label_taken"]:
        w["label_taken"] -= 1
        end(5, "Bootstrap failed: 5: Input/output error")
    if job or w["disabled"]:
        end(5, "Bootstrap failed: 5: Input/output error")
    w["jobs"][domain] = {{"state": "not running", "plist": pathlib.Path(sys.argv[3]).read_text()}}
    end(0)
if verb == "kickstart":
    if not job:
        end(113, "Could not find service")
    if job["state"] == "running":
        end(37, "Operation already in progress")
    job["state"] = "not running" if w["broken"] else "running"
    end(0)
end(64, "unknown verb")
"""


class World:
    """What the stand-in remembers between two calls."""

    def __init__(self, folder):
        self.file = folder / "launchd.json"
        self.set(
            log=[], jobs={}, desktop=True, disabled=False, broken=False, slow_bootout=3, slow_label=4, label_taken=0,
            last_exit="(never exited)", spawn="interactive (4)",
        )  # fmt: skip

    def get(self):
        return json.loads(self.file.read_text())

    def set(self, **values):
        old = json.loads(self.file.read_text()) if self.file.exists() else {}
        self.file.write_text(json.dumps({**old, **values}))

    def verbs(self):
        """The calls that change something, since the last time this was asked."""
        log = self.get()["log"]
        self.set(log=[])
        return [line.split()[0] for line in log if not line.startswith("print")]


@pytest.fixture(name="world")
def _world(tmp_path, monkeypatch):
    folder = tmp_path / "bin"
    folder.mkdir()
    world = World(tmp_path)
    program = folder / "launchctl"
    program.write_text(_LAUNCHCTL.format(python=sys.executable, state=str(world.file), label=_LABEL))
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(folder))
    return world


@pytest.fixture(name="me")
def _me(tmp_path):
    folder = tmp_path / "me"
    folder.mkdir()
    return folder


@pytest.fixture(name="agent")
def _agent(me):
    seconds = [0.0]

    def sleep(duration):
        seconds[0] += duration

    return LaunchAgent(me, uid=501, patience=Patience(lambda: seconds[0], sleep))


def _spec(me, name="stoker"):
    return service_spec(me / name, python="/venv/bin/python", platform="darwin", user_home=me)


def test_first_install(world, me, agent):
    outcome = agent.install(_spec(me))
    assert outcome.running
    assert outcome.warnings == ()
    assert world.verbs() == ["enable", "bootstrap", "kickstart"]
    file = me / "Library" / "LaunchAgents" / f"{_LABEL}.plist"
    assert plistlib.loads(file.read_bytes())["Label"] == _LABEL
    assert file.stat().st_mode & 0o022 == 0, "launchd refuses lists that others may write"
    assert (me / "Library" / "Logs" / "stoker").is_dir(), "without it the job dies before its first line"
    assert f"launchctl print gui/501/{_LABEL}" in outcome.see


def test_state(world, me, agent):
    spec = _spec(me)
    before = agent.state(spec)
    assert not before.installed
    assert not before.loaded
    assert not before.running
    agent.install(spec)
    state = agent.state(spec)
    assert (state.installed, state.current, state.loaded, state.running) == (True, True, True, True)
    assert (state.pid, state.starts, state.detail) == (4711, 3, "running")
    assert state.process_class == "interactive (4)"
    assert state.last_end == ""


def test_install_again_changes_nothing(world, me, agent):
    agent.install(_spec(me))
    file = me / "Library" / "LaunchAgents" / f"{_LABEL}.plist"
    before = file.stat()
    world.verbs()
    outcome = agent.install(_spec(me))
    assert outcome.running
    assert world.verbs() == ["kickstart"]
    assert file.stat().st_ino == before.st_ino, "each new registration is remembered, and shown, by macOS"


def test_a_changed_list_is_booted_out_awaited_written_and_loaded(world, me, agent):
    agent.install(_spec(me))
    world.verbs()
    outcome = agent.install(_spec(me, "other"))
    assert outcome.running
    # The label stays taken for a while after the job is gone: bootstrap is repeated.
    assert world.verbs() == ["bootout", *["enable", "bootstrap"] * 5, "kickstart"]
    loaded = plistlib.loads(world.get()["jobs"]["gui/501"]["plist"].encode())
    assert loaded["WorkingDirectory"] == str(me / "other")


def test_cut_off_between_bootout_and_write(world, me, agent, monkeypatch):
    """The old list must not be left loaded with the new one on the disk: the next install would see no difference."""
    agent.install(_spec(me))

    def no_space(*_, **__):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr("stoker.supervisor.service.launchctl.write_atomic", no_space)
        with pytest.raises(OSError, match="No space"):
            agent.install(_spec(me, "other"))
    assert agent.install(_spec(me, "other")).running
    loaded = plistlib.loads(world.get()["jobs"]["gui/501"]["plist"].encode())
    assert loaded["WorkingDirectory"] == str(me / "other")


def test_without_a_desktop_login_the_user_domain_is_taken(world, me, agent):
    world.set(desktop=False)
    outcome = agent.install(_spec(me))
    assert outcome.running
    assert list(world.get()["jobs"]) == ["user/501"]
    assert "desktop" in outcome.warnings[0]


def test_moves_to_the_desktop_when_there_is_one(world, me, agent):
    world.set(desktop=False)
    agent.install(_spec(me))
    world.set(desktop=True)
    assert agent.install(_spec(me)).running
    assert list(world.get()["jobs"]) == ["gui/501"]


def test_a_service_that_was_switched_off_is_enabled(world, me, agent):
    world.set(disabled=True)
    assert agent.install(_spec(me)).running


def test_a_label_that_never_gets_free_is_an_error_with_words(world, me, agent):
    world.set(label_taken=10_000)
    with pytest.raises(ServiceError, match="5: Input/output error") as error:
        agent.install(_spec(me))
    assert "Login Items" in error.value.hint
    assert world.verbs().count("bootstrap") >= 15


def test_a_daemon_that_never_ends_is_an_error_with_words(world, me, agent):
    agent.install(_spec(me))
    world.set(slow_bootout=10_000)
    with pytest.raises(ServiceError, match="still there after 90 s"):
        agent.uninstall(_spec(me))


def test_loaded_but_not_running_is_said(world, me, agent):
    world.set(broken=True, last_exit="78: EX_CONFIG")
    outcome = agent.install(_spec(me))
    assert not outcome.running
    assert "launchd.err.log" in outcome.warnings[0]
    assert "may not touch one of its paths" in outcome.warnings[0]


def test_uninstall_twice(world, me, agent):
    agent.install(_spec(me))
    outcome = agent.uninstall(_spec(me))
    assert not outcome.running
    assert len(outcome.done) == 2
    assert world.get()["jobs"] == {}
    assert not (me / "Library" / "LaunchAgents" / f"{_LABEL}.plist").exists()
    assert agent.uninstall(_spec(me)).done == ()


def test_root_is_refused(world, me):
    with pytest.raises(ServiceError, match="cannot install for root") as error:
        LaunchAgent(me, uid=0).install(_spec(me))
    assert "sudo" in error.value.hint
    assert world.get()["log"] == []


def test_preview_changes_nothing(world, me, agent):
    home = Home(me / "stoker")
    lines = preview(home, _spec(me), agent, me)
    assert any(line.startswith("write ") for line in lines)
    assert any("bootstrap gui/501" in line for line in lines)
    assert world.verbs() == []
    assert list(me.iterdir()) == []


def test_whole_install_and_uninstall(world, me, agent):
    home = Home(me / "stoker")
    assert install(home, _spec(me), agent, me).running
    assert (me / "Stoker" / "inbox").readlink() == home.inbox
    assert home.dir.stat().st_mode & 0o777 == 0o700
    kept = home.runs / "sft_20260213_1430"
    kept.mkdir()
    uninstall(home, _spec(me), agent, me)
    assert kept.is_dir()
    assert not (me / "Stoker").exists()


# What the real launchctl printed, shortened; the words of the reports that are named in the tests above.
_JETSAM = """gui/501/io.github.stoker.stoker = {
	active count = 0
	path = /Users/me/Library/LaunchAgents/io.github.stoker.stoker.plist
	type = LaunchAgent
	state = not running

	program = /Users/me/venv/bin/python
	arguments = {
		/Users/me/venv/bin/python
		-m
		state = x
	}

	inherited environment = {
		SSH_AUTH_SOCK => /private/tmp/com.apple.launchd.x/Listeners
	}

	runs = 7
	last exit code = (never exited)
	last terminating signal = Killed: 9
	last exit reason = OS_REASON_JETSAM | low swap
	semaphores = {
		successful exit => 0
	}

	resource coalition = {
		state = active
		pid = 1
	}
	spawn type = interactive (4)
	properties = runatload | inferred program
}
"""


def test_print_is_read_at_its_top_level_only():
    facts = parse_print(_JETSAM)
    assert facts["state"] == "not running"
    assert "pid" not in facts
    assert facts["last exit reason"] == "OS_REASON_JETSAM | low swap"


@pytest.mark.parametrize("text", ["", "rubbish", "{\n}\n}", "a = {\n\tb = c"])
def test_print_that_is_not_understood_says_nothing(text):
    assert parse_print(text).get("state") is None


def test_the_list_for_a_real_user_is_what_launchd_gets(me):
    spec = service_spec(me / "stoker", platform="darwin", user_home=me)
    arguments = plistlib.loads(launchd.render(spec))["ProgramArguments"]
    assert Path(arguments[0]).is_absolute()
    assert os.access(arguments[0], os.X_OK)
