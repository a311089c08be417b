"""SIGKILL at any moment: no job is lost, none runs twice at once, every exit is recorded (promises 1 to 3).

The trainers' own journal is believed, not the store. `make chaos` runs the long form: STOKER_CHAOS_KILLS kills (1,000)
for each of STOKER_CHAOS_SEEDS (1).
"""

import json
import os
import random
import time

import pytest
from harness_daemon import Bench, alive, bench_in, end, most_at_once, overlaps

from stoker.supervisor.child import find
from stoker.supervisor.files import read_json

SLOTS = 2
KILLS = int(os.environ.get("STOKER_CHAOS_KILLS", "1000"))
SEEDS = range(1, 1 + int(os.environ.get("STOKER_CHAOS_SEEDS", "1")))
ENDED = {"completed", "failed", "cancelled"}


class Chaos:
    """Drops jobs at random moments while it kills daemons, and shims, at others."""

    def __init__(self, bench: Bench, seed: int, *, jobs: int, kills: int, shims: bool) -> None:
        self.bench = bench
        self.random = random.Random(seed)
        self.shims = shims
        self.kills = {"daemon": 0, "shim": 0}
        self._drops = sorted(self.random.randrange(kills) for _ in range(jobs))
        self._kills = kills

    def run(self) -> None:
        for kill in range(self._kills):
            for n, when in enumerate(self._drops):
                if when == kill:
                    self._drop(n)
            # A quarter of the kills strike while the daemon starts: adoption has to survive a kill as well.
            early = self.random.random() < 0.25
            self.bench.start(ready=not early)
            time.sleep(self.random.uniform(0.0, 0.8 if early else 0.35))
            if self.shims and self.random.random() < 0.5:
                self._kill_shim()  # seen by a daemon that lives, or by the next one
            self.bench.kill()
            self.kills["daemon"] += 1
        self.bench.start()
        self.bench.wait(self._over, "every run ended", lambda: str(self.bench.states()), patience=240.0)

    def _drop(self, n: int) -> None:
        seconds = self.random.choice([0.4, 1.0, 2.0] if self.shims else [0.0, 0.05, 0.15, 0.4, 1.0])
        self.bench.drop(f"job-{n:03}.yaml", self.bench.job("--seconds", seconds))

    def _kill_shim(self) -> None:
        """Kill the shim of a running attempt, sometimes in the moment of its start."""
        living = [
            processes
            for launch in self.bench.home.runs.glob("*/attempts/*/run.json")
            if not launch.with_name("exit.json").exists()
            and (processes := find(self.bench.home.run(launch.parts[-4]).attempt(int(launch.parts[-2]))))
            and processes.shim_alive
        ]
        if living:
            end(self.random.choice(living).shim_pid)
            self.kills["shim"] += 1

    def _over(self) -> bool:
        runs = self.bench.runs()
        return len(runs) == len(self._drops) and all(run["state"] in ENDED for run in runs)


def _check(bench: Bench, *, jobs: int) -> dict[str, int]:
    """Check what holds whatever was killed; return run_id -> successful trainers."""
    lives = bench.lives()
    runs = bench.runs()
    assert overlaps(lives) == []
    assert most_at_once(lives) <= SLOTS
    assert sorted(run["name"] for run in runs) == [f"job-{n:03}" for n in range(jobs)]
    assert {life.run for life in lives} == {run["run_id"] for run in runs}
    assert not list(bench.home.inbox.glob("*.yaml"))
    for life in lives:
        assert life.end is not None, f"{life} never ended"
        assert not alive(life.start["pid"])
    for run in runs:
        shown = bench.show(run["run_id"])
        started = [life.start["attempt"] for life in lives if life.run == run["run_id"]]
        assert sorted(set(started)) == sorted(started), "one attempt started two trainers"
        assert all(attempt["ended_at"] for attempt in shown["attempts"])
        for attempt in shown["attempts"]:
            row = read_json(bench.attempt(run["run_id"], attempt["n"]).exit)
            assert attempt["exit_code"] == (row["code"] if row else None)
    endings = [json.loads(line) for line in bench.home.records.read_text().splitlines()]
    assert {row["run_id"]: row["status"] for row in endings} == {run["run_id"]: run["state"] for run in runs}
    return {run["run_id"]: sum(life.finished for life in lives if life.run == run["run_id"]) for run in runs}


def _daemons_killed(bench: Bench, seed: int, *, jobs: int, kills: int) -> None:
    chaos = Chaos(bench, seed, jobs=jobs, kills=kills, shims=False)
    chaos.run()
    successes = _check(bench, jobs=jobs)
    assert set(successes.values()) == {1}, "each job runs to its end exactly once"
    assert {run["state"] for run in bench.runs()} == {"completed"}
    lives = bench.lives()
    assert len(lives) == jobs, "a daemon's death never costs a trainer"
    attempts = sum(run["attempt"] for run in bench.runs())
    print(f"\nseed {seed}: {chaos.kills}, {jobs} jobs, {len(lives)} trainers, {attempts} attempts")


def _shims_killed(bench: Bench, seed: int, *, jobs: int, kills: int) -> None:
    chaos = Chaos(bench, seed, jobs=jobs, kills=kills, shims=True)
    chaos.run()
    successes = _check(bench, jobs=jobs)
    for run in bench.runs():
        if run["state"] == "completed":
            assert successes[run["run_id"]] >= 1
        else:  # its budget is spent: four trainers whose exit nobody saw
            assert run["state"] == "failed"
            assert run["attempt"] >= 4
    lives = bench.lives()
    assert len(lives) <= jobs + chaos.kills["shim"], "only a killed shim costs another trainer"
    done = sum(run["state"] == "completed" for run in bench.runs())
    print(f"\nseed {seed}: {chaos.kills}, {jobs} jobs, {done} completed, {len(lives)} trainers")


def test_kill_9_of_the_daemon_at_random_loses_and_doubles_nothing(tmp_path):
    with bench_in(tmp_path, slots=SLOTS) as bench:
        _daemons_killed(bench, 4, jobs=20, kills=40)


def test_kill_9_of_daemons_and_shims_loses_nothing_and_never_overlaps(tmp_path):
    with bench_in(tmp_path, slots=SLOTS) as bench:
        _shims_killed(bench, 9, jobs=12, kills=20)


@pytest.mark.chaos
@pytest.mark.timeout(7200)
@pytest.mark.parametrize("seed", SEEDS)
def test_a_thousand_kills_of_the_daemon(tmp_path, seed):
    with bench_in(tmp_path, slots=SLOTS) as bench:
        _daemons_killed(bench, seed, jobs=KILLS // 2, kills=KILLS)


@pytest.mark.chaos
@pytest.mark.timeout(7200)
@pytest.mark.parametrize("seed", SEEDS)
def test_a_thousand_kills_of_daemons_and_shims(tmp_path, seed):
    with bench_in(tmp_path, slots=SLOTS) as bench:
        _shims_killed(bench, seed, jobs=KILLS // 2, kills=KILLS)
