"""The ledger counts what was tried since the last progress."""

from dataclasses import replace

from stoker.recovery.ledger import completed_none, good_until, tally
from stoker.recovery.policy import load_policies
from stoker.recovery.situation import PastAttempt

POLICIES = load_policies()


def history(*rows):
    """Attempts from (from, last, best checkpoint, plan taken after it)."""
    return [
        PastAttempt(n + 1, "killed", "", start, last, best, plan, plan is not None and "rebooted" not in plan, None)
        for n, (start, last, best, plan) in enumerate(rows)
    ]


def test_the_first_attempt_starts_with_nothing_used():
    seen = tally(history((0, 50, None, None)), POLICIES)
    assert (seen.progressed, seen.best, seen.launches, seen.plain, seen.idle) == (False, 0, 0, 0, 0)
    assert dict(seen.rungs) == {}


def test_attempts_without_a_newer_checkpoint_add_up():
    seen = tally(
        history((0, 50, 40, "killed/resume"), (40, 55, None, "oom/halve-micro-batch"), (40, 45, 40, None)), POLICIES
    )
    assert not seen.progressed
    assert (seen.best, seen.launches, seen.plain) == (40, 2, 1)
    assert dict(seen.rungs) == {"killed/resume": 1, "oom/halve-micro-batch": 1}


def test_a_newer_checkpoint_resets_what_was_used():
    rows = [(0, 50, 40, "killed/resume"), (40, 55, None, "killed/resume"), (40, 70, 60, None)]
    seen = tally(history(*rows), POLICIES)
    assert seen.progressed
    assert (seen.best, seen.launches, dict(seen.rungs)) == (60, 0, {})
    assert dict(seen.rungs_in_run) == {"killed/resume": 2}


def test_what_followed_progress_counts_again():
    seen = tally(history((0, 50, 40, "killed/resume"), (40, 70, 60, "killed/resume"), (60, 61, None, None)), POLICIES)
    assert dict(seen.rungs) == {"killed/resume": 1}
    assert [attempt.n for attempt in seen.since] == [2]


def test_a_checkpoint_as_far_as_the_best_is_no_progress():
    """After a rewind the same iterations are walked again: that is not progress."""
    seen = tally(history((0, 61, 60, "nan_loss/replay"), (40, 61, 60, None)), POLICIES)
    assert not seen.progressed


def test_a_checkpoint_closer_to_the_same_fault_is_no_progress():
    """Checkpoints by the clock fall elsewhere in each attempt: 32, 44, 46, and at 47 it is nan again."""
    rows = [(0, 46, 32, "nan_loss/replay"), (32, 46, 44, None)]
    seen = tally([replace(row, cause="nan_loss", onset=47) for row in history(*rows)], POLICIES)
    assert (seen.progressed, seen.best, dict(seen.rungs)) == (False, 44, {"nan_loss/replay": 1})


def test_past_the_fault_or_for_another_cause_it_is_progress():
    first, second = history((0, 46, 32, "killed/resume"), (32, 46, 44, None))
    assert not tally([first, second], POLICIES).progressed
    assert tally([first, replace(second, last_iteration=47)], POLICIES).progressed
    assert tally([first, replace(second, cause="oom")], POLICIES).progressed


def test_uncounted_plans_use_their_rung_but_no_ceiling():
    seen = tally(history((0, 50, 40, "host_rebooted/resume"), (40, 45, None, None)), POLICIES)
    assert (seen.launches, seen.rungs["host_rebooted/resume"]) == (0, 1)


def test_a_plan_that_the_policies_no_longer_know_counts_as_plain():
    assert tally(history((0, 50, 40, "gone/rung"), (40, 45, None, None)), POLICIES).plain == 1


def test_pauses_and_changes_are_not_idle_launches():
    rows = [
        (0, 0, None, "network_error/wait"),
        (0, 0, None, "oom/halve-micro-batch"),
        (0, 0, None, "killed/resume"),
        (0, 0, None, None),
    ]
    assert tally(history(*rows), POLICIES).idle == 1


def test_an_iteration_ends_the_idle_row():
    rows = [
        (0, 0, None, "killed/resume"),
        (0, 3, None, "killed/resume"),
        (0, 0, None, "killed/resume"),
        (0, 0, None, None),
    ]
    assert tally(history(*rows), POLICIES).idle == 1


def test_a_checkpoint_from_after_the_onset_is_not_good():
    attempt = PastAttempt(1, "divergence", "", 0, 90, 80, None, True, 61)
    assert good_until(attempt) == 60
    assert good_until(PastAttempt(1, "divergence", "", 0, 90, 40, None, True, 61)) == 40
    assert good_until(PastAttempt(1, "divergence", "", 0, 90, None, None, True, 61)) == 0


def test_completed_none():
    assert completed_none(PastAttempt(2, "killed", "", 40, 40, None, None, True, None))
    assert not completed_none(PastAttempt(2, "killed", "", 40, 41, None, None, True, None))
