"""The packaged policies are complete and come out as their examples say; a person's file is merged or refused."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stoker.recovery.causes import CAUSES
from stoker.recovery.policy import Backoff, PolicyError, load_policies, merge, parse_policies
from stoker.recovery.policy_examples import failing_examples

POLICIES = load_policies()


def test_every_example_comes_out_as_it_says():
    assert failing_examples(POLICIES) == []


def test_every_row_has_examples():
    assert [row.name for row in POLICIES.rows if not row.examples] == []


@pytest.mark.parametrize("cause", CAUSES)
def test_every_cause_has_a_row_and_words(cause):
    row = POLICIES.row(cause)
    assert cause in row.causes or row.name == "unknown"
    assert cause in POLICIES.words


def test_only_what_is_no_failure_falls_to_unknown():
    assert [cause for cause in CAUSES if cause not in POLICIES.row(cause).causes] == ["healthy", "slowdown"]


def test_a_cause_that_nobody_has_heard_of_is_unknown():
    assert POLICIES.row("solar_flare").name == "unknown"


def test_what_keeps_the_meaning_comes_before_what_does_not():
    for row in POLICIES.rows:
        lossy = [bool(rung.adjust and rung.adjust.lossy) for rung in row.rungs if rung.adjust]
        assert lossy == sorted(lossy), row.name


def test_what_each_change_preserves():
    preserved = {
        rung.adjust.field: set(rung.adjust.preserves) for row in POLICIES.rows for rung in row.rungs if rung.adjust
    }
    everything = {"effective_batch", "data_order", "iterations", "schedule"}
    assert preserved["micro_batch"] == everything
    assert preserved["grad_checkpoint"] == everything
    assert preserved["learning_rate"] == everything - {"schedule"}


# ---- a person's file -------------------------------------------------------------------------------------------------

MINE = b"""
version: 1
general: {plain: 2}
rows:
  - causes: [killed, my_cause]
    rungs:
      - {id: never, action: fail, say: not here}
"""


def test_my_row_replaces_the_row_of_its_causes_and_nothing_else():
    merged = merge(POLICIES, parse_policies(MINE, file="mine.yaml"))
    assert merged.row("killed").rungs[0].id == "never"
    assert merged.row("my_cause").name == "killed"
    assert merged.row("oom") == POLICIES.row("oom")
    assert (merged.general.plain, merged.general.launches) == (2, POLICIES.general.launches)


def test_a_cause_can_be_taken_out_of_a_row_that_it_shares():
    mine = parse_policies(MINE.replace(b"killed, my_cause", b"divergence"), file="mine.yaml")
    merged = merge(POLICIES, mine)
    assert merged.row("divergence").rungs[0].id == "never"
    assert merged.row("nan_loss").rungs == POLICIES.row("nan_loss").rungs


def test_a_file_may_set_limits_only(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text("version: 1\ngeneral: {restart_free_seconds: 60}\n")
    assert load_policies(path).general.restart_free_seconds == 60
    assert load_policies(path).rows == POLICIES.rows


HALVE = "{field: micro_batch, divide: 2, floor: 1, preserves: []}"
MULTIPLY = HALVE.replace("divide: 2", "multiply: 0.5")
HEAD = b"version: 1\nrows:\n  - causes: [oom]\n"
ROW = b"  - causes: [oom]\n    rungs: [{id: a, action: fail, say: x}]\n"


def rung(text: str) -> bytes:
    end = "{id: end, action: fail, say: x}"
    return f"version: 1\nrows:\n  - causes: [oom]\n    rungs:\n      - {{{text}}}\n      - {end}\n".encode()


@pytest.mark.parametrize(
    ("data", "line", "says"),
    [
        (b"version: 1\nrows: [", 2, "flow"),
        (b"- 1\n", 1, "a list"),
        (b"version: 2\n", 1, "1"),
        (b"version: 1\nrow: []\n", 2, "Extra inputs"),
        (b"version: 1\nversion: 1\n", 2, "version"),
        (rung("id: a, action: resume, say: x"), 5, "needs `times`"),
        (rung(f"id: a, action: resume, say: x, counted: false, adjust: {HALVE}"), 5, "needs `times`"),
        (rung("id: a, action: wait, times: 1, say: x"), 5, "needs `backoff`"),
        (rung("id: a, action: hold, say: x"), 5, "needs it"),
        (rung("id: a, action: hold, release: disk, say: x"), 5, "needs `times`"),
        (rung("id: a, action: resume, times: 0, say: x"), 5, "times"),
        (rung("id: a, action: restart, times: 1, say: x"), 5, "'resume'"),
        (rung("id: a, action: resume, times: 1, say: 'from {chekpoint}'"), 5, "unknown placeholder {chekpoint}"),
        (rung("id: a, action: resume, times: 1, say: 'from {'"), 5, "'from {'"),
        (rung("id: a, action: resume, times: 1, say: x, when: {iteration: 3}"), 5, "Extra inputs"),
        (rung(f"id: a, action: resume, say: x, adjust: {MULTIPLY}"), 5, "`divide` alone"),
        (rung(f"id: a, action: resume, say: x, adjust: {HALVE.replace('floor: 1,', '')}"), 5, "needs a `floor`"),
        (rung("id: a, action: fail, say: x, backoff: {first: 1, max: 2}"), 5, "belong to a launch"),
        (rung("id: end, action: fail, say: x"), 3, "must differ"),
        (HEAD + b"    rungs: [{id: a, action: resume, times: 1, say: x}]\n", 3, "every ladder ends"),
        (HEAD + b"    rungs: [{id: a, action: fail, say: x}]\n" + ROW, 1, "one row: oom"),
    ],
)  # fmt: skip
def test_a_file_that_does_not_fit_is_refused_with_its_line(data, line, says):
    with pytest.raises(PolicyError) as refused:
        parse_policies(data, file="mine.yaml")
    assert f"mine.yaml:{line}:" in str(refused.value)
    assert says in str(refused.value)


def test_all_problems_are_named_at_once():
    data = HEAD + b"    rungs:\n    - {id: A, action: fail, say: x}\n    - {id: b, action: no, say: x}\n"
    with pytest.raises(PolicyError) as refused:
        parse_policies(data, file="mine.yaml")
    assert [line.split(" ")[0] for line in str(refused.value).splitlines()] == ["mine.yaml:5:", "mine.yaml:6:"]


def test_a_wrong_example_is_found():
    text = MINE.replace(b"say: not here}", b"say: not here}\n    examples: [{given: {}, expect: {rung: other}}]")
    assert failing_examples(merge(POLICIES, parse_policies(text, file="mine.yaml"))) == [
        "the example 1 of killed: expected rung 'other', got 'never'"
    ]


# ---- delays ----------------------------------------------------------------------------------------------------------


def test_delays_grow_to_their_maximum():
    backoff = Backoff(first=5, factor=6, max=300, immediate=1)
    assert [backoff.delay(used, 0.5) for used in range(5)] == [0, 5, 30, 180, 300]


@given(st.integers(0, 10_000), st.floats(0, 1))
def test_jitter_spreads_within_its_fraction(used, fraction):
    backoff = Backoff(first=10, factor=3, max=100, jitter=0.25)
    plain = min(100, 10 * 3 ** min(used, 5))
    assert plain * 0.75 <= backoff.delay(used, fraction) <= plain * 1.25
