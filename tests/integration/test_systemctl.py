"""Install and uninstall with a stand-in for systemctl and loginctl on PATH."""

import json
import sys

import pytest

from stoker.supervisor.paths import Home
from stoker.supervisor.service.inbox_link import link_inbox, unlink_inbox
from stoker.supervisor.service.manager import install, service_manager, uninstall
from stoker.supervisor.service.spec import service_spec
from stoker.supervisor.service.state import ServiceError
from stoker.supervisor.service.systemctl import UserUnit

_SYSTEMCTL = """#!{python} -IS
import json, pathlib, sys
file = pathlib.Path({state!r})
w = json.loads(file.read_text())
name, arguments = pathlib.Path(sys.argv[0]).name, sys.argv[1:]
w["log"].append(" ".join([name, *arguments]))

def end(code, text=""):
    file.write_text(json.dumps(w))
    print(text, file=sys.stderr if code else sys.stdout)
    sys.exit(code)

if name == "loginctl":
    end(0, "Linger=" + w["linger"]) if w["linger"] else end(1, "Failed to get user: User ID is not logged in")
assert arguments.pop(0) == "--user"
if not w["manager"]:
    end(1, "Failed to connect to bus: No medium found")
verb, unit = arguments[0], pathlib.Path({unit!r})
if verb == "show":
    load = "loaded" if w["loaded"] else "not-found"
    pid, active = (4711, "active") if w["loaded_text"] else (0, "inactive")
    says = dict(LoadState=load, ActiveState=active, SubState="x", MainPID=pid, NRestarts=2, Result=w["result"])
    end(0, "\\n".join(f"{{name}}={{value}}" for name, value in says.items()))
if verb == "daemon-reload":
    w["loaded"] = unit.read_text() if unit.exists() else ""
elif verb == "stop":
    w["loaded_text"] = ""
elif verb == "enable":
    if w["fails"]:
        end(1, "Job for stoker.service failed because the control process exited with error code.")
    w["enabled"] = True
    w["loaded_text"] = w["loaded_text"] or w["loaded"]
elif verb == "disable":
    w["loaded_text"], w["enabled"] = "", False
elif verb == "reset-failed":
    end(1, "Unit stoker.service not loaded.")
end(0)
"""


class World:
    """What the stand-ins remember between two calls; `loaded_text` = the unit by which the daemon runs."""

    def __init__(self, folder):
        self.file = folder / "systemd.json"
        self.set(log=[], manager=True, loaded="", loaded_text="", enabled=False, fails=False, result="success")
        self.set(linger="yes")

    def get(self):
        return json.loads(self.file.read_text())

    def set(self, **values):
        old = json.loads(self.file.read_text()) if self.file.exists() else {}
        self.file.write_text(json.dumps({**old, **values}))

    def verbs(self):
        log = self.get()["log"]
        self.set(log=[])
        return [line.split()[2] for line in log if line.startswith("systemctl") and " show " not in line]


@pytest.fixture(name="me")
def _me(tmp_path):
    folder = tmp_path / "me"
    folder.mkdir()
    return folder


@pytest.fixture(name="unit_file")
def _unit_file(me):
    return me / ".config" / "systemd" / "user" / "stoker.service"


@pytest.fixture(name="world")
def _world(tmp_path, monkeypatch, unit_file):
    folder = tmp_path / "bin"
    folder.mkdir()
    world = World(tmp_path)
    for name in ("systemctl", "loginctl"):
        program = folder / name
        program.write_text(_SYSTEMCTL.format(python=sys.executable, state=str(world.file), unit=str(unit_file)))
        program.chmod(0o755)
    monkeypatch.setenv("PATH", str(folder))
    return world


@pytest.fixture(name="manager")
def _manager(me, tmp_path):
    return UserUnit(me, user="me", linger=tmp_path / "linger")


def _spec(me, name="stoker"):
    return service_spec(me / name, python="/venv/bin/python", platform="linux", user_home=me)


def test_first_install(world, me, manager, unit_file):
    outcome = manager.install(_spec(me))
    assert outcome.running
    assert outcome.warnings == ()
    assert world.verbs() == ["daemon-reload", "enable"]
    assert world.get()["enabled"]
    assert str(me / "stoker") in unit_file.read_text()
    assert "journalctl --user -u stoker.service -f" in outcome.see


def test_state(world, me, manager):
    spec = _spec(me)
    assert not manager.state(spec).installed
    manager.install(spec)
    state = manager.state(spec)
    assert (state.installed, state.current, state.loaded, state.running) == (True, True, True, True)
    assert (state.pid, state.starts, state.last_end) == (4711, 2, "")
    world.set(result="watchdog")
    assert manager.state(spec).last_end == "watchdog"


def test_install_again_neither_writes_nor_stops(world, me, manager, unit_file):
    manager.install(_spec(me))
    before = unit_file.stat()
    world.verbs()
    assert manager.install(_spec(me)).running
    assert world.verbs() == ["daemon-reload", "enable"]
    assert unit_file.stat().st_ino == before.st_ino


def test_a_changed_unit_restarts_the_daemon(world, me, manager):
    manager.install(_spec(me))
    world.verbs()
    assert manager.install(_spec(me, "other")).running
    assert world.verbs() == ["stop", "daemon-reload", "enable"]
    assert str(me / "other") in world.get()["loaded_text"]


def test_cut_off_before_the_write(world, me, manager, monkeypatch):
    manager.install(_spec(me))

    def no_space(*_, **__):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr("stoker.supervisor.service.systemctl.write_atomic", no_space)
        with pytest.raises(OSError, match="No space"):
            manager.install(_spec(me, "other"))
    assert manager.install(_spec(me, "other")).running
    assert str(me / "other") in world.get()["loaded_text"]


def test_without_a_user_manager_the_unit_is_written_and_the_command_is_said(world, me, manager, unit_file):
    world.set(manager=False)
    outcome = manager.install(_spec(me))
    assert not outcome.running
    assert unit_file.exists()
    assert "NOT started" in outcome.warnings[0]
    assert "No medium found" in outcome.warnings[0]
    assert "systemctl --user enable --now stoker.service" in outcome.warnings[0]
    wanted = unit_file.parent / "default.target.wants" / "stoker.service"
    wanted.parent.mkdir()
    wanted.symlink_to(unit_file)
    assert len(manager.uninstall(_spec(me)).done) == 2
    assert not unit_file.exists()
    assert not wanted.is_symlink()


def test_without_systemd_at_all(me, manager, unit_file, tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    outcome = manager.install(_spec(me))
    assert not outcome.running
    assert unit_file.exists()
    assert "cannot run systemctl" in outcome.warnings[0]


def test_a_start_that_fails_is_an_error_with_words(world, me, manager):
    world.set(fails=True)
    with pytest.raises(ServiceError, match="control process exited with error code") as error:
        manager.install(_spec(me))
    assert error.value.hint == "read the reason with: journalctl --user -u stoker.service -n 50"


@pytest.mark.parametrize(("answer", "file", "expected"), [("yes", 0, True), ("no", 0, False), ("", 1, True)])
def test_lingering(world, manager, tmp_path, answer, file, expected):
    world.set(linger=answer)
    (tmp_path / "linger").mkdir()
    if file:
        (tmp_path / "linger" / "me").touch()
    assert manager.lingers() is expected


def test_lingering_is_hinted_at(world, me, manager):
    world.set(linger="no")
    assert "loginctl enable-linger me" in manager.install(_spec(me)).warnings[0]
    world.set(linger="")
    assert manager.lingers() is None


def test_uninstall_twice(world, me, manager, unit_file):
    manager.install(_spec(me))
    world.verbs()
    assert manager.uninstall(_spec(me)).done == ("stopped and disabled the service", f"removed {unit_file}")
    assert world.verbs() == ["disable", "daemon-reload", "reset-failed"]
    assert manager.uninstall(_spec(me)).done == ()
    assert world.verbs() == []


def test_whole_install_and_uninstall(world, me):
    home, manager = Home(me / "stoker"), service_manager(platform="linux", user_home=me)
    outcome = install(home, _spec(me), manager, me)
    assert outcome.running
    assert outcome.done[0] == f"linked {me / 'Stoker' / 'inbox'} to {home.inbox}"
    kept = home.runs / "sft_20260213_1430"
    kept.mkdir()
    uninstall(home, _spec(me), manager, me)
    assert kept.is_dir()
    assert home.inbox.is_dir()
    assert not (me / "Stoker").exists()


def test_link_is_made_once_and_removed_with_its_folder(me):
    inbox = me / "home" / "inbox"
    assert link_inbox(inbox, me)[0].startswith("linked ")
    assert link_inbox(inbox, me) == ("", "")
    assert unlink_inbox(inbox, me).startswith("removed ")
    assert unlink_inbox(inbox, me) == ""
    assert list(me.iterdir()) == []


@pytest.mark.parametrize("kind", ["folder", "file", "link", "file instead of ~/Stoker"])
def test_the_link_never_replaces_anything(me, kind):
    inbox, link = me / "home" / "inbox", me / "Stoker" / "inbox"
    if kind == "file instead of ~/Stoker":
        link.parent.write_text("mine")
    else:
        link.parent.mkdir()
    if kind == "folder":
        link.mkdir()
    if kind == "file":
        link.write_text("mine")
    if kind == "link":
        link.symlink_to(me / "elsewhere")
    done, warning = link_inbox(inbox, me)
    assert done == ""
    assert "left as it is" in warning
    assert str(inbox) in warning
    assert unlink_inbox(inbox, me) == ""
    assert link.is_symlink() or link.exists() or link.parent.is_file()


def test_a_neighbour_in_the_folder_of_the_link_is_kept(me):
    inbox = me / "home" / "inbox"
    link_inbox(inbox, me)
    (me / "Stoker" / "notes.txt").write_text("mine")
    unlink_inbox(inbox, me)
    assert (me / "Stoker" / "notes.txt").read_text() == "mine"
