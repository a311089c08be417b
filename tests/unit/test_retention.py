"""Which checkpoints stay, and what makes one suspect a jump of the loss."""

import math
import random
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stoker.recovery.checkpoint.manifest import MANIFEST
from stoker.supervisor.trainer.retention import Kept, expendable, lineage
from stoker.supervisor.trainer.suspicion import Suspicion


def rows(*iterations):
    return [Kept(iteration, 1, Path(f"{iteration:08d}-a1")) for iteration in sorted(iterations, reverse=True)]


def test_the_newest_stay():
    assert [row.iteration for row in expendable(rows(10, 20, 30, 40), 2, None)] == [10, 20]


def test_the_newest_before_the_suspected_onset_stays_too():
    assert [row.iteration for row in expendable(rows(10, 20, 30, 40, 50), 2, 25)] == [10, 30]
    assert [row.iteration for row in expendable(rows(10, 20, 30, 40, 50), 2, 20)] == [
        20,
        30,
    ]  # at the onset is too late
    assert [row.iteration for row in expendable(rows(10, 20, 30), 2, 99)] == [10]
    assert [row.iteration for row in expendable(rows(10, 20, 30), 2, 5)] == [10]


@given(st.sets(st.integers(1, 500)), st.integers(1, 5), st.none() | st.integers(1, 500))
def test_what_goes_and_what_stays(iterations, keep, onset):
    found = rows(*iterations)
    gone = expendable(found, keep, onset)
    stay = [row for row in found if row not in gone]
    assert gone == sorted(gone)
    assert stay[:keep] == found[:keep]
    assert len(stay) <= keep + (onset is not None)
    before = [row for row in found if onset is not None and row.iteration < onset]
    assert not before or before[0] in stay


def test_the_lineage_ends_where_this_attempt_began(tmp_path):
    for name in ("00000010-a1", "00000020-a1", "00000030-a1", "00000024-a2", "00000028-a3", "torn"):
        (tmp_path / name).mkdir()
        (tmp_path / name / MANIFEST).write_text("{}")
    (tmp_path / "00000040-a3").mkdir()  # not committed
    found = lineage(tmp_path, attempt=3, from_iteration=20)
    assert [row.path.name for row in found] == ["00000028-a3", "00000020-a1", "00000010-a1"]


def losses(count, noise, seed=1):
    source = random.Random(seed)
    return [6.0 * math.exp(-i / 200) + 1.0 + source.gauss(0, noise) for i in range(count)]


@pytest.mark.parametrize("noise", [0.0, 0.02, 0.1, 0.3])
def test_a_healthy_noisy_descent_is_not_suspected(noise):
    suspicion = Suspicion()
    for iteration, loss in enumerate(losses(2000, noise), 1):
        suspicion.see(iteration, loss)
    assert suspicion.onset is None


def test_a_jump_is_dated_and_counts_once():
    suspicion = Suspicion()
    for iteration, loss in enumerate([*losses(300, 0.05), 9.0, 9.5, 12.0, 14.0], 1):
        suspicion.see(iteration, loss)
    assert suspicion.onset == 301


def test_a_second_jump_replaces_the_first():
    suspicion = Suspicion()
    calm = losses(300, 0.05)
    for iteration, loss in enumerate([*calm, 9.0, *calm[-50:], 9.0, 9.0], 1):
        suspicion.see(iteration, loss)
    assert suspicion.onset == 352


def test_what_is_known_from_before_counts_until_something_newer():
    assert Suspicion(None, None).onset is None
    assert Suspicion(70, None).onset == 70
    assert Suspicion(70, 90).onset == 90
