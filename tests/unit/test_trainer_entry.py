"""The first things the trainer process does, before it imports anything of its own."""

import os
import subprocess
import sys

from stoker.supervisor.trainer import main


def test_the_lease_does_not_reach_the_children_of_the_trainer(monkeypatch):
    reading, writing = os.pipe()
    os.set_inheritable(writing, True)
    monkeypatch.setenv("STOKER_LEASE_FD", str(writing))

    main.keep_lease_to_ourselves()

    assert not os.get_inheritable(writing)
    os.close(reading)
    os.close(writing)


def test_it_finds_its_own_modules_without_an_installed_stoker(tmp_path):
    """-S hides site-packages; nothing of the trainer's folder may shadow the standard library."""
    probe = (
        "import runpy, sys; sys.argv = ['main.py']; "
        f"g = runpy.run_path({main.__file__!r}); g['make_stoker_importable'](); "
        "import signal, stoker.supervisor.failpoints, stoker.recovery.checkpoint.manifest; print(signal.SIGTERM.name)"
    )
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", probe], cwd=tmp_path, capture_output=True, text=True, check=False, timeout=60
    )
    assert (done.returncode, done.stdout) == (0, "SIGTERM\n"), done.stderr


def test_a_wrong_call_is_a_usage_error(capsys):
    assert main.main([]) == 2
    assert "ATTEMPT_DIR" in capsys.readouterr().err
