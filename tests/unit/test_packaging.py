"""The hand-written list of packages is complete, and nothing is importable by accident."""

import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
ROOMS = ("supervisor", "recovery", "profiles", "launchd", "systemd")


def packages() -> list[str]:
    with (ROOT / "pyproject.toml").open("rb") as file:
        return tomllib.load(file)["tool"]["setuptools"]["packages"]


def test_every_package_on_disk_is_listed_and_every_listed_one_is_on_disk():
    on_disk = {
        "stoker." + ".".join(init.parent.relative_to(ROOT).parts)
        for room in ROOMS
        for init in (ROOT / room).rglob("__init__.py")
    }
    assert set(packages()) == on_disk


def test_the_folders_are_not_importable_under_their_own_names():
    """`import supervisor` would load a second copy of the modules, or the PyPI package of that name."""
    assert not {"supervisor", "recovery", "profiles"} & set(sys.modules)


def test_types_links_show_static_tools_what_python_sees():
    for room in ("supervisor", "recovery", "profiles"):
        assert (ROOT / ".types" / "stoker" / room).resolve() == ROOT / room


@pytest.mark.timeout(600)
def test_a_wheel_holds_every_module_and_every_data_file(tmp_path):
    """Built through the source distribution, as a release is: a stale build/lib cannot hide a missing file."""
    argv = [sys.executable, "-m", "build", "--outdir", str(tmp_path), str(ROOT)]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    (wheel,) = tmp_path.glob("*.whl")
    held = set(zipfile.ZipFile(wheel).namelist())
    endings = {".py", ".yaml", ".json", ".sql", ".plist", ".service"}
    for room in ROOMS:
        for file in (ROOT / room).rglob("*"):
            if file.suffix in endings and "__pycache__" not in file.parts:
                assert "stoker/" + str(file.relative_to(ROOT)) in held
