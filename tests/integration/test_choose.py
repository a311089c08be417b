"""Choosing the last good checkpoint among folders."""

import pytest

from stoker.recovery.checkpoint.choose import Candidate, candidates, choose, eligible
from stoker.recovery.checkpoint.verify import Verdict


def committed(folder, *names):
    for name in names:
        (folder / name).mkdir(parents=True)
        (folder / name / "manifest.json").write_text("{}")


def names(found):
    return [candidate.name for candidate in found]


def verdicts(*bad):
    """A verifier that finds fault with the folders named; it notes what it was asked."""
    asked = []

    def verify(path):
        asked.append(path.name)
        problems = ("weights.safetensors: torn",) if path.name in bad else ()
        return Verdict(path, not problems, problems, None, "checkpoint", None)

    verify.asked = asked
    return verify


def test_candidates_are_committed_folders_newest_first(tmp_path):
    committed(tmp_path, "00000020-a1", "00000040-a2", "00000040-a1", "100000000-a2", "20-a1", "notes")
    (tmp_path / "00000060-a2").mkdir()
    (tmp_path / "00000080-a2").write_text("a file")
    assert names(candidates(tmp_path)) == ["100000000-a2", "00000040-a2", "00000040-a1", "00000020-a1"]


def test_a_folder_that_does_not_exist_holds_no_candidates(tmp_path):
    assert candidates(tmp_path / "checkpoints") == ()


@pytest.mark.parametrize(
    ("iteration", "attempt", "starts", "expected"),
    [
        (40, 1, {1: 0}, True),
        (40, 1, {1: 0, 2: 40}, True),
        (41, 1, {1: 0, 2: 40}, False),
        (60, 2, {1: 0, 2: 40}, True),
        (40, 1, {1: 0, 2: 40, 3: 20}, False),
        (20, 1, {1: 0, 2: 40, 3: 20}, True),
        (60, 2, {1: 0, 2: 40, 3: 20, 4: 30}, False),
        (25, 3, {1: 0, 2: 40, 3: 20, 4: 30}, True),
        (20, 1, {1: 0, 2: 0}, False),
    ],
)
def test_lineage(tmp_path, iteration, attempt, starts, expected):
    assert eligible(Candidate("x", tmp_path, iteration, attempt), starts) is expected


def test_the_newest_of_the_lineage_not_the_highest_number(tmp_path):
    committed(tmp_path, "00000020-a1", "00000060-a1", "00000030-a2")
    choice = choose(candidates(tmp_path), {1: 0, 2: 20}, verdicts())
    assert choice.chosen.name == "00000030-a2"
    assert choice.rejected == ()


def test_bad_ones_are_reported_and_passed_over(tmp_path):
    committed(tmp_path, "00000020-a1", "00000040-a1", "00000060-a1")
    verify = verdicts("00000060-a1", "00000040-a1")
    choice = choose(candidates(tmp_path), {1: 0}, verify)
    assert choice.chosen.name == "00000020-a1"
    assert [(bad.name, problems) for bad, problems in choice.rejected] == [
        ("00000060-a1", ("weights.safetensors: torn",)),
        ("00000040-a1", ("weights.safetensors: torn",)),
    ]


def test_nothing_older_than_the_chosen_one_is_read(tmp_path):
    committed(tmp_path, "00000020-a1", "00000040-a1")
    verify = verdicts()
    choose(candidates(tmp_path), {1: 0}, verify)
    assert verify.asked == ["00000040-a1"]


def test_what_is_out_of_the_lineage_or_after_the_onset_is_neither_read_nor_rejected(tmp_path):
    committed(tmp_path, "00000020-a1", "00000050-a1", "00000040-a2", "00000060-a2")
    verify = verdicts("00000050-a1", "00000060-a2")
    choice = choose(candidates(tmp_path), {1: 0, 2: 20}, verify, before=60)
    assert choice.chosen.name == "00000040-a2"
    assert verify.asked == ["00000040-a2"]
    assert choice.rejected == ()


def test_none_left(tmp_path):
    committed(tmp_path, "00000020-a1")
    assert choose(candidates(tmp_path), {1: 0}, verdicts(), before=20).chosen is None
    assert choose((), {}, verdicts()).chosen is None
