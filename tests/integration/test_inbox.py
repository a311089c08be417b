"""The inbox: whatever is dropped is taken whole and once, or answered beside the file; the daemon is never harmed."""

import os
import shutil
import socket
import time
from pathlib import Path

import pytest
from harness_daemon import bench_in
from harness_malformed import MALFORMED
from hypothesis import given, settings
from hypothesis import strategies as st

from stoker.supervisor.inbox import is_job_name

TEMPORARY = [
    "4913", ".x.yaml.swp", ".x.yaml.swx", "x.yaml~", "#x.yaml#", ".#x.yaml", ".x.yaml", "x.yaml.tmp", "x.yaml.part",
    "~x.yaml", ".~lock.x.yaml#", "x.yaml.12345", ".goutputstream-AB12CD.yaml", "_tmp_x.yaml", "notes.txt", "x.yaml.bak",
    ".DS_Store", "._x.yaml",
]  # fmt: skip
BROKEN_S = 3.0  # what the daemon waits before it calls a file that it cannot read as a job a mistake


def _odd_entries(folder: Path, bench) -> list[str]:
    """Make what is no regular readable file; return the names."""
    (folder / "folder.yaml").mkdir()
    (folder / "full-folder.yaml").mkdir()
    (folder / "full-folder.yaml" / "inner.yaml").write_bytes(bench.job())
    (folder / "link.yaml").symlink_to(bench.write("target.yaml", bench.job()))
    (folder / "dangling.yaml").symlink_to(folder / "nowhere")
    (folder / "loop.yaml").symlink_to(folder / "loop.yaml")
    os.mkfifo(folder / "fifo.yaml")
    here = Path.cwd()
    os.chdir(folder)  # a socket's path has to be short
    try:
        with socket.socket(socket.AF_UNIX) as unix:
            unix.bind("socket.yaml")
    finally:
        os.chdir(here)
    bench.drop("unreadable.yaml", bench.job()).chmod(0o000)
    with (folder / ".huge").open("wb") as file:
        file.truncate(10_000_000)
    (folder / ".huge").rename(folder / "huge.yaml")
    return [
        "folder.yaml", "full-folder.yaml", "link.yaml", "dangling.yaml", "loop.yaml", "fifo.yaml", "socket.yaml",
        "unreadable.yaml", "huge.yaml",
    ]  # fmt: skip


def test_everything_malformed_is_answered_beside_the_file_and_the_next_good_job_completes(bench):
    bench.start()
    daemon = bench.daemon.pid
    expected = {}
    for number, malformed in enumerate(MALFORMED):
        name = f"{number:03}.yaml"
        bench.drop(name, malformed.data)
        expected[name] = malformed
    extra = {
        "missing-model.yaml": (b"model: /nowhere/model\ndata: /nowhere/data\n", "/nowhere/model"),
        "missing-data.yaml": (b"model: org/model\ndata: /nowhere/data\n", "/nowhere/data"),
        "relative.yaml": (b"model: models/mine\ndata: data/sft\n", "stoker submit FILE"),
        "no-program.yaml": (b"stoker: {trainer: command, command: [/nowhere/train]}\n", "/nowhere/train"),
        "never-finished.yaml": (b"model: org/model\nstoker:\n  name: [half", "not YAML"),
        "circle.yaml": (bench.job(name="ring", needs=["ring-2"]), None),
    }
    for name, (data, _) in extra.items():
        bench.drop(name, data)
    odd = _odd_entries(bench.home.inbox, bench)
    assert len(expected) + len(extra) + len(odd) > 60
    for name in odd:
        assert bench.rejected(name).startswith(f"{name}: ")
    for name, malformed in expected.items():
        answer = bench.rejected(name)
        assert f"{name}:{malformed.line}:" in answer or malformed.name == "too large", malformed.name
        assert malformed.part in answer, malformed.name
    for name, (_, part) in extra.items():
        if part is not None:
            assert part in bench.rejected(name), name
    bench.wait_state("ring", "blocked")
    bench.drop("circle-2.yaml", bench.job(name="ring-2", needs=["ring"]))
    assert "ring-2 -> ring -> ring-2" in bench.rejected("circle-2.yaml")
    bench.drop("good.yaml", bench.job())
    bench.wait_state("good", "completed")
    assert bench.daemon.pid == daemon
    assert bench.daemon.poll() is None
    assert sorted(bench.states()) == ["good", "ring"]
    assert {entry.name for entry in bench.home.inbox.iterdir()} == {"rejected"}
    assert (bench.home.inbox / "rejected" / "full-folder.yaml" / "inner.yaml").exists()


def test_a_rejected_name_used_again_keeps_both_files_and_both_answers(bench):
    bench.start()
    for text in (b"iters: 0\n", b"iters: -1\n"):
        bench.drop("again.yaml", text)
        bench.wait(lambda: not (bench.home.inbox / "again.yaml").exists(), "it is rejected")
    names = sorted(entry.name for entry in (bench.home.inbox / "rejected").iterdir())
    assert names == ["again.2.yaml", "again.2.yaml.error.txt", "again.yaml", "again.yaml.error.txt"]


def test_temporary_files_of_editors_are_left_alone(bench):
    for name in TEMPORARY:
        (bench.home.inbox / name).write_bytes(bench.job())
    bench.start()
    bench.drop("real.yaml", bench.job())
    bench.wait_state("real", "completed")
    time.sleep(BROKEN_S)  # none of them is rejected later either
    assert {entry.name for entry in bench.home.inbox.iterdir()} == set(TEMPORARY)
    assert list(bench.states()) == ["real"]


@pytest.mark.parametrize("name", TEMPORARY)
def test_names_of_temporary_files(name):
    assert not is_job_name(name)


@given(st.text(st.characters(exclude_characters="/\0", codec="utf-8"), min_size=1, max_size=20))
def test_a_name_that_ends_in_yaml_and_begins_with_a_letter_is_a_job(stem):
    for ending in (".yaml", ".yml", ".YAML", ".Yml"):
        assert is_job_name(f"a{stem}{ending}")
        assert not is_job_name(f".{stem}{ending}")


@pytest.mark.parametrize("pause", [0.4, 1.0, 2.0])
@pytest.mark.parametrize("half", ["middle of a line", "end of a line", "empty"])
def test_a_file_written_slowly_is_taken_once_and_whole(bench, pause, half):
    bench.start()
    job = bench.job("--text", "whole", top={"iters": 3}, name="slow", priority=3)
    lines = job.split(b"\n")
    part = {
        "empty": b"",
        # After its first line the file is YAML, but not a job that this machine could run.
        "end of a line": lines[0] + b"\n",
        "middle of a line": job[: len(job) - 9],
    }[half]
    with (bench.home.inbox / "slow.yaml").open("wb") as file:
        file.write(part)
        file.flush()
        time.sleep(pause)
        file.write(job[len(part) :])
    shown = bench.wait_state("slow", "completed")
    assert shown["priority"] == 3
    assert bench.home.run(shown["run_id"]).submitted.read_bytes() == job
    assert bench.home.run(shown["run_id"]).job.read_bytes() == job
    assert len(bench.runs()) == 1
    assert not (bench.home.inbox / "rejected").exists()


def test_a_file_without_a_last_newline_is_taken(bench):
    bench.start()
    bench.drop("bare.yaml", bench.job().rstrip(b"\n"))
    bench.wait_state("bare", "completed")


def test_a_moved_and_a_copied_and_an_edited_file_are_each_taken_once(bench):
    bench.start()
    source = bench.write("copied.yaml", bench.job())
    bench.drop("moved.yml", bench.job())
    shutil.copy2(source, bench.home.inbox / "copied.yaml")
    edited = bench.home.inbox / ".edited.yaml.swp"  # vim: a swap file, the file itself written in place
    edited.write_bytes(b"swap")
    (bench.home.inbox / "edited.yaml").write_bytes(bench.job())
    edited.unlink()
    bench.drop("CAPITALS.YAML", bench.job())
    for name in ("moved", "copied", "edited", "CAPITALS"):
        bench.wait_state(name, "completed")
    assert len(bench.runs()) == len(bench.lives()) == 4


def test_more_folders_are_watched_also_on_another_volume(tmp_path):
    shared = Path("/dev/shm")
    other = shared / f"stoker-{os.getpid()}"
    elsewhere = shared.is_dir() and shared.stat().st_dev != tmp_path.stat().st_dev
    more = [tmp_path / "team", *([other] if elsewhere else [])]
    try:
        # The same folder twice, and one that cannot be made, are no trouble.
        folders = [*map(str, more), str(tmp_path / "team"), "/proc/no-such-folder/inbox"]
        with bench_in(tmp_path, inbox=folders) as bench:
            bench.start()
            for number, folder in enumerate(more):
                bench.drop(f"team-{number}.yaml", bench.job(), folder)
                bench.drop(f"wrong-{number}.yaml", b"iters: 0\n", folder)
            for number, folder in enumerate(more):
                bench.wait_state(f"team-{number}", "completed")
                assert "1 or more" in bench.rejected(f"wrong-{number}.yaml", folder)
                assert {entry.name for entry in folder.iterdir()} == {"rejected"}
            assert len(bench.runs()) == len(more)
    finally:
        shutil.rmtree(other, ignore_errors=True)


@pytest.mark.parametrize("point", ["daemon.claim.noted", "daemon.claim.aside", "daemon.claim.moved"])
def test_a_claim_from_another_volume_survives_kill_9(tmp_path, point):
    shared = Path("/dev/shm")
    if not shared.is_dir() or shared.stat().st_dev == tmp_path.stat().st_dev:
        pytest.skip("there is no second volume here")
    other = shared / f"stoker-{os.getpid()}-{point}"
    try:
        with bench_in(tmp_path, inbox=[str(other)]) as bench:
            bench.start(failpoints=f"{point}:kill@1")
            bench.drop("far.yaml", bench.job(), other)
            bench.finished()
            bench.start()
            bench.wait_state("far", "completed")
            assert len(bench.runs()) == len(bench.lives()) == 1
            assert list(other.iterdir()) == []
    finally:
        shutil.rmtree(other, ignore_errors=True)


@pytest.mark.parametrize("point", ["daemon.claim.noted", "daemon.claim.moved"])
def test_a_full_disk_while_claiming_loses_and_doubles_nothing(bench, point):
    bench.start(failpoints=f"{point}:enospc@1")
    bench.drop("full.yaml", bench.job())
    bench.wait_state("full", "completed")
    assert len(bench.runs()) == len(bench.lives()) == 1
    assert len(list(bench.home.runs.iterdir())) == 1
    assert {row["event"] for row in bench.faults()} == {"step_failed"}
    bench.home.log.write_text("")  # that was provoked


def test_many_files_at_once_are_all_admitted_and_commands_are_answered_meanwhile(bench):
    bench.start()
    bench.drop("gate.yaml", bench.job("--until", bench.folder / "gate", priority=9))
    bench.wait_state("gate", "running")
    for number in range(300):
        bench.drop(f"many-{number:03}.yaml", bench.job(name=f"many-{number:03}"))
    done = bench.stoker("pause", "gate")
    assert done.returncode == 0, done.stderr
    bench.wait(lambda: len(bench.runs()) == 301, "all are admitted", lambda: str(len(bench.runs())))
    assert not list(bench.home.inbox.glob("*.yaml"))


@settings(max_examples=1, deadline=None)
@given(st.lists(st.binary(max_size=200), min_size=60, max_size=60))
def test_random_bytes_never_harm_the_daemon(tmp_path_factory, drops):
    with bench_in(tmp_path_factory.mktemp("bytes")) as bench:
        bench.start()
        for number, data in enumerate(drops):
            bench.drop(f"{number:02}.yaml", data)
        for number in range(len(drops)):
            bench.rejected(f"{number:02}.yaml")
        bench.drop("good.yaml", bench.job())
        bench.wait_state("good", "completed")


def test_an_answer_stands_there_within_seconds_also_for_many(bench):
    """Sixty broken files wait for a slow writer side by side, not one after the other."""
    bench.start()
    for number in range(60):
        bench.drop(f"{number}.yaml", b"model: [\n")
    for number in range(60):
        bench.rejected(f"{number}.yaml")
