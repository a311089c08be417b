"""Plans: the ladder of each cause as it is walked, and what must hold for every sequence of failures."""

from dataclasses import dataclass, replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stoker.recovery.plan import Current, PastAttempt, Situation, plan
from stoker.recovery.policy import load_policies

POLICIES = load_policies()
CAUSES = sorted({cause for row in POLICIES.rows for cause in row.causes} | {"healthy", "slowdown", "never_heard_of"})
ABLE = frozenset({"resume", "micro_batch", "grad_checkpoint", "max_seq_length", "learning_rate"})


@dataclass(frozen=True)
class Finding:
    rule: str = "rule"
    cause: str = "unknown"
    file: str = "train.log"
    line: int = 7
    text: str = "a line of the log"


@dataclass(frozen=True)
class Diagnosis:
    cause: str
    onset: int | None = None
    fingerprint: str = ""
    retryable: str = "yes"
    findings: tuple = ()
    advice: str = "Look at it."
    confidence: float = 1.0


NOW = Current(
    batch_size=4, micro_batch=None, grad_checkpoint=False, max_seq_length=1024,
    lr_factor=1.0, learning_rate=1e-4, step=50,
)  # fmt: skip


def situation(cause="killed", *, last=50, start=0, best=None, onset=None, good=(), earlier=(), now=NOW, **more):
    """The attempt after `earlier` ended at iteration `last`."""
    diagnosis = {key: more.pop(key) for key in ("fingerprint", "retryable", "findings") if key in more}
    n = len(earlier) + 1
    this = PastAttempt(n, cause, diagnosis.get("fingerprint", ""), start, last, best, None, True, onset)
    values = {
        "lossy": "allow", "start_over": "allow", "lost_seconds_if_restarted": None, "capabilities": ABLE,
    }  # fmt: skip
    return Situation(
        diagnosis=Diagnosis(cause, onset, **diagnosis), attempt=n, history=(*earlier, this), current=now, good=good,
        **(values | more),
    )  # fmt: skip


def in_effect(now, adjustment):
    """The values in effect after an adjustment."""
    if adjustment is None:
        return now
    if adjustment.field == "learning_rate":
        factor = adjustment.launch["factor"]
        return replace(now, lr_factor=now.lr_factor * factor, learning_rate=adjustment.to)
    return replace(now, **{adjustment.field: adjustment.to})


def walk(cause, *, most=60, **more):
    """The rungs and changes of a ladder when nothing ever helps."""
    history, now, steps = [], more.pop("now", NOW), []
    for _ in range(most):
        asked = situation(cause, earlier=tuple(history), now=now, **more)
        made = plan(asked)
        change = made.adjustment
        steps.append((made.row.partition("/")[2], change and change.to))
        if made.action == "fail" or made.release == "person":
            return steps, made
        history.append(replace(asked.history[-1], plan=made.row, counted=made.counted))
        now = in_effect(now, change)
    raise AssertionError(f"{cause} goes on for ever: {steps}")


@pytest.mark.parametrize(
    ("cause", "more", "steps"),
    [
        ("oom", {}, [
            ("halve-micro-batch", 2), ("halve-micro-batch", 1), ("grad-checkpoint", True),
            ("shorter-sequences", 512), ("shorter-sequences", 256), ("give-up", None),
        ]),
        ("oom", {"lossy": "never"}, [
            ("halve-micro-batch", 2), ("halve-micro-batch", 1), ("grad-checkpoint", True), ("give-up", None),
        ]),
        ("oom", {"lossy": "ask"}, [
            ("halve-micro-batch", 2), ("halve-micro-batch", 1), ("grad-checkpoint", True), ("shorter-sequences", 512),
        ]),
        ("oom", {"capabilities": frozenset({"resume", "grad_checkpoint"})}, [
            ("grad-checkpoint", True), ("give-up", None),
        ]),
        ("oom", {"capabilities": frozenset()}, [("give-up", None)]),
        ("gpu_timeout", {}, [
            ("as-is", None), ("halve-micro-batch", 2), ("halve-micro-batch", 1), ("grad-checkpoint", True),
            ("shorter-sequences", 512), ("shorter-sequences", 256), ("give-up", None),
        ]),
        ("gpu_error", {}, [("once", None), ("give-up", None)]),
        ("nan_loss", {"onset": 51, "good": (50,)}, [
            ("replay", None), ("halve-learning-rate", 5e-5), ("fifth-learning-rate", 1e-5), ("give-up", None),
        ]),
        ("nan_loss", {"onset": 51, "good": (50,), "capabilities": frozenset({"resume"})}, [
            ("replay", None), ("give-up", None),
        ]),
        ("divergence", {"onset": 51, "good": (50,)}, [
            ("replay", None), ("halve-learning-rate", 5e-5), ("fifth-learning-rate", 1e-5), ("give-up", None),
        ]),
        ("hang", {}, [("resume", None), ("same-iteration", None)]),
        ("killed", {}, [("resume", None)] * 3 + [("ask", None)]),
        ("interrupted", {}, [("resume", None)] * 4 + [("ask", None)]),
        ("segfault", {"last": 0}, [("resume", None)] * 3 + [("give-up", None)]),
        ("python_error", {}, [("resume", None)] * 2 + [("give-up", None)]),
        ("python_error", {"fingerprint": "a"}, [("resume", None), ("same-place", None)]),
        ("network_error", {}, [("wait", None)] * 7 + [("give-up", None)]),
        ("network_error", {"retryable": "no"}, [("cannot-help", None)]),
        ("host_rebooted", {}, [("resume", None)] * 10 + [("ask", None)]),
        ("host_panic", {}, [("cool-down", None)] * 2 + [("ask", None)]),
        ("disk_full", {}, [("wait-for-room", None)] * 10 + [("give-up", None)]),
        ("checkpoint_corruption", {"start": 40, "last": 40}, [("older-checkpoint", None)] * 6 + [("give-up", None)]),
        ("config_error", {}, [("at-once", None)]),
        ("never_heard_of", {}, [("resume", None)] * 3 + [("give-up", None)]),
    ],
)  # fmt: skip
def test_the_ladder_when_nothing_helps(cause, more, steps):
    assert walk(cause, **more)[0] == steps


def test_out_of_memory_at_its_end_names_the_smallest_size():
    reason = walk("oom")[1].reason
    assert "micro_batch 1, grad_checkpoint on, max_seq_length 256" in reason


# ---- where to go on from ---------------------------------------------------------------------------------------------


def test_a_crash_goes_on_from_the_newest_good_checkpoint():
    made = plan(situation("killed", good=(40, 20), names={40: "00000040-a1"}))
    assert (made.action, made.target) == ("resume", 40)
    assert made.reason == (
        "the trainer was killed after iteration 50 and nobody asked for it; going on from 00000040-a1 as it was"
    )


@pytest.mark.parametrize(("onset", "target"), [(61, 60), (60, 50), (51, 50), (50, 0)])
def test_nan_goes_back_to_before_its_onset(onset, target):
    made = plan(situation("nan_loss", last=70, onset=onset, good=(60, 50)))
    assert (made.action, made.target) == ("rewind", target)


def test_nan_without_an_onset_trusts_the_last_completed_iteration():
    assert plan(situation("nan_loss", last=60, good=(60, 50))).target == 60


def test_the_reason_of_a_replay():
    made = plan(situation("nan_loss", last=60, onset=61, good=(50,), names={50: "00000050-a1"}))
    assert made.reason == "the loss became nan at iteration 61; replaying once from 00000050-a1 exactly as it was"


@pytest.mark.parametrize(("at", "word"), [(61, "deterministic"), (64, "hardware may be at fault")])
def test_after_the_replay_the_reason_says_what_it_showed(at, word):
    first = PastAttempt(1, "nan_loss", "", 0, 60, 50, "nan_loss/replay", True, 61)
    made = plan(situation("nan_loss", start=50, last=at - 1, onset=at, good=(50,), earlier=(first,)))
    assert made.row == "nan_loss/halve-learning-rate"
    assert word in made.reason
    assert made.adjustment.launch == {"from_step": 50, "factor": 0.5, "ramp_steps": 10}
    assert made.adjustment.reason == made.reason


def test_a_checkpoint_that_cannot_be_read_is_left_behind_even_if_it_verifies():
    assert plan(situation("checkpoint_corruption", start=40, last=40, good=(40, 20))).target == 20


def test_corruption_noticed_while_training_goes_on_from_the_newest():
    assert plan(situation("checkpoint_corruption", start=20, last=45, good=(40, 20))).target == 40


def test_changed_inputs_are_held_with_both_values_and_the_command():
    text = "stoker: checkpoint_mismatch: inputs changed: data train.jsonl: aaaa, now bbbb"
    made = plan(situation("checkpoint_mismatch", start=40, good=(40,), findings=(Finding(text=text),)))
    assert (made.action, made.release, made.target) == ("hold", "person", None)
    for part in ("aaaa", "bbbb", "--accept-changed-data", "train.log:7"):
        assert part in made.reason


def test_the_victim_of_a_gpu_fault_is_not_counted():
    victim = Finding(rule="metal-victim", cause="gpu_error")
    made = plan(situation("gpu_error", good=(40,), findings=(victim,)))
    assert (made.row, made.counted) == ("gpu_error/victim", False)


def test_the_first_cause_decides_about_victims():
    findings = (Finding(rule="metal-victim", cause="other"), Finding(rule="metal-hang", cause="gpu_error"))
    assert plan(situation("gpu_error", good=(40,), findings=findings)).row == "gpu_error/once"


def test_failing_at_once_names_the_line_and_the_fix():
    made = plan(situation("data_error", findings=(Finding(cause="data_error", text="line 3 is not JSON"),)))
    assert made.action == "fail"
    assert "line 3 is not JSON (train.log:7). Look at it." in made.reason


def test_a_long_line_is_cut():
    made = plan(situation("data_error", findings=(Finding(cause="data_error", text="x" * 10_000),)))
    assert len(made.reason) < 500


def test_an_unrequested_interruption_counts_unless_a_newer_checkpoint_was_committed():
    assert plan(situation("interrupted", best=50, good=(50,))).counted is False
    assert plan(situation("interrupted", good=())).counted is True


def test_progress_resets_the_budget():
    killed = [PastAttempt(n, "killed", "", 0, 9, None, "killed/resume", True, None) for n in (1, 2, 3)]
    assert plan(situation("killed", earlier=tuple(killed))).action == "hold"
    assert plan(situation("killed", earlier=tuple(killed), best=40, good=(40,))).action == "resume"


def test_progress_does_not_reset_the_panics():
    panics = [PastAttempt(n, "host_panic", "", 0, 9 * n, 9 * n, "host_panic/cool-down", False, None) for n in (1, 2)]
    assert plan(situation("host_panic", earlier=tuple(panics), best=40, good=(40,))).action == "hold"


def test_a_command_runs_again_from_the_start_within_its_budget():
    steps, made = walk("killed", capabilities=frozenset(), start_over="ask", lost_seconds_if_restarted=99_999)
    assert len(steps) == 4
    assert made.action == "hold"


# ---- going back to the start -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("start_over", "lost", "last", "action"),
    [
        ("allow", 99_999, 50, "resume"),
        ("ask", 1_799, 50, "resume"),
        ("ask", 1_800, 50, "hold"),
        ("ask", None, 50, "hold"),
        ("ask", None, 0, "resume"),
        ("never", 10, 50, "hold"),
        ("never", None, 0, "resume"),
    ],
)
def test_going_back_to_the_start(start_over, lost, last, action):
    made = plan(situation("killed", last=last, start_over=start_over, lost_seconds_if_restarted=lost))
    assert made.action == action
    if action == "hold":
        assert made.release == "person"
        assert made.numbers["target_if_resumed"] == 0
        assert "`stoker resume RUN`" in made.reason


def test_with_a_good_checkpoint_nobody_is_asked():
    assert plan(situation("killed", good=(20,), start_over="never")).action == "resume"


def test_a_question_carries_the_change_it_asks_for():
    now = replace(NOW, micro_batch=1, grad_checkpoint=True)
    made = plan(situation("oom", now=now, lossy="ask", good=(40,)))
    assert (made.action, made.adjustment.to, made.numbers["target_if_resumed"]) == ("hold", 512, 40)


# ---- ceilings --------------------------------------------------------------------------------------------------------


def test_few_launches_without_a_single_iteration():
    """Different causes in turn do not get a budget each."""
    causes = ["segfault", "aborted", "killed", "unknown", "python_error", "distributed_error"]
    history = []
    for cause in causes:
        asked = situation(cause, last=0, earlier=tuple(history))
        made = plan(asked)
        if made.action in {"fail", "hold"}:
            break
        history.append(replace(asked.history[-1], plan=made.row, counted=made.counted))
    assert len(history) == POLICIES.general.without_iteration
    assert "3 launches in a row completed no iteration (ceiling 3)" in made.reason


def most_launches():
    """How many launches without progress there can be: the counted ones, and each rung that is not counted."""
    uncounted = sum(rung.times or 0 for row in POLICIES.rows for rung in row.rungs if not rung.counted)
    return POLICIES.general.launches + uncounted


FAILURES = st.tuples(
    st.sampled_from(CAUSES), st.integers(0, 30), st.sampled_from(["", "a", "b"]), st.sampled_from(["yes", "no"])
)


@settings(max_examples=200, deadline=None)
@given(st.lists(FAILURES, min_size=90, max_size=130), st.sampled_from([1, 8, 512]), st.booleans(), st.booleans())
def test_no_sequence_of_failures_without_progress_goes_on_for_ever(failures, batch_size, can_resume, has_checkpoint):
    able = ABLE if can_resume else ABLE - {"resume"}
    now, history, good = replace(NOW, batch_size=batch_size), [], (10,) if has_checkpoint else ()
    for cause, done, fingerprint, retryable in failures:
        start = 10 if has_checkpoint and history else 0
        onset = start + done + 1 if cause in {"nan_loss", "divergence"} else None
        asked = situation(
            cause, start=start, last=start + done, onset=onset, good=good, earlier=tuple(history), now=now,
            best=10 if has_checkpoint and not history else None, capabilities=able, fingerprint=fingerprint,
            retryable=retryable,
        )  # fmt: skip
        made = plan(asked)
        assert made == plan(asked)
        assert made.reason
        assert made.numbers
        if made.adjustment is not None:
            assert made.adjustment.to != made.adjustment.from_
        if made.action == "fail" or made.release == "person":
            return
        assert made.delay_s >= 0
        assert made.release == "disk" or made.target in {0, *good}
        history.append(replace(asked.history[-1], plan=made.row, counted=made.counted))
        now = in_effect(now, made.adjustment)
        assert len(history) <= most_launches()
    raise AssertionError(f"{len(history)} launches without progress")


@settings(max_examples=25, deadline=None)
@given(st.permutations(CAUSES), st.sampled_from([1, 8, 512]), st.booleans())
def test_the_worst_sequence_ends_too(order, batch_size, done_something):
    """At each turn the first cause of `order` that still allows a launch: nobody could draw it out longer."""
    now, history = replace(NOW, batch_size=batch_size), []
    for _ in range(most_launches() + 1):
        for cause in order:
            last = len(history) + 1 if done_something else 0  # never the same iteration
            asked = situation(cause, last=last, earlier=tuple(history), now=now)
            made = plan(asked)
            if made.action != "fail" and made.release != "person":
                history.append(replace(asked.history[-1], plan=made.row, counted=made.counted))
                now = in_effect(now, made.adjustment)
                break
        else:
            assert len(history) <= most_launches()
            return
    raise AssertionError("it never ends")


@pytest.mark.parametrize("cause", CAUSES)
def test_every_reason_is_a_sentence_without_gaps(cause):
    made = plan(situation(cause, good=(40,), onset=45))
    assert "{" not in made.reason
    assert "  " not in made.reason
    assert "; " in made.reason
