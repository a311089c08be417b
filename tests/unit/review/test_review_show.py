import re

import pytest

from stoker.supervisor.review import show as page
from stoker.supervisor.review.story import story
from stoker.supervisor.review.verdict import verdict


def flat(text):
    return re.sub(r"\s+", " ", text)


def test_the_verdict_comes_first_and_says_what_it_cost(story_of, now, printed):
    show, decisions = story_of
    text = printed(page.render(show, decisions, now=now))
    first = flat(text.split("\n\n", maxsplit=1)[0])
    assert "Completed 60 iterations in 2h 13m (ETTR 98.7%), over 3 attempts." in first
    assert "Recovered from killed, oom; 13 iterations had to be done again." in first
    assert "Warm (micro_batch 8 → 4): not byte for byte" in first


def test_the_page_has_attempts_changes_and_the_adapter(story_of, now, printed):
    show, decisions = story_of
    text = printed(page.render(show, decisions, now=now, losses=[3, 2, 1.5, 1.1]))
    assert "40 → 55" in text
    assert "00000040-a1" in text
    assert "oom (simulated)" in text
    assert "train.log:6" in text
    assert "quarantined" in text
    assert "micro_batch 8 → 4" in text
    assert "preserves effective batch, data order, schedule, iterations" in flat(text)
    assert f"  sha256 {'a' * 64}\n" in text
    assert "label warm" in text
    assert "█▄▂▁ 1.1" in text
    assert max(len(line) for line in text.splitlines()) <= 80
    assert "\x1b" not in text


def test_the_story_stands_alone_with_and_without_decisions(story_of, printed):
    show, decisions = story_of
    text = flat(printed(story(show, decisions)))
    assert "→ resumed from 00000040-a1 → quarantined 00000045-a1" in text
    assert "→ resumed from 00000040-a1" in flat(printed(story(show)))
    assert "no attempt yet" in printed(story({}))


def test_the_finding_that_names_the_cause_is_the_evidence(story_of, printed):
    show, _ = story_of
    text = printed(story(show))
    assert "Insufficient Memory" in flat(text)
    assert "Traceback" not in text


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({"state": "queued", "attempts": [], "attempt": 0}, "Queued: waits for a free slot."),
        ({"state": "held", "reason": "paused by you."}, "Held at iteration 12,340 of 20,000: paused by you."),
        ({"state": "running"}, "Running: attempt 2, iteration 12,340 of 20,000, done in about 2d 4h."),
        ({"state": "failed", "reason": "nan_loss"}, "Failed at iteration 12,340 of 20,000, in one attempt: nan_loss."),
        ({"state": "cancelled"}, "Cancelled at iteration 12,340 of 20,000, in one attempt: cancelled by you."),
        ({"state": "completed"}, "Completed 12,340 iterations in 1h 56m (ETTR 98.7%), in one attempt."),
    ],
)
def test_each_state_has_its_sentence(make, now, values, expected):
    attempts = [{"n": 1, "cause": None}]
    assert verdict(make(**{"attempts": attempts, **values}), now=now).startswith(expected)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({"state": "completed", "exact": True}, "Exact: the weights are those of a run without interruptions."),
        ({"state": "running", "exact": True}, "Exact so far: as if it had never been interrupted."),
        (
            {"state": "running", "exact": False, "label_reasons": ["micro_batch: 8 -> 4", "unproved_mlx_lm: 0.99"]},
            "Warm (micro_batch: 8 -> 4; unproved_mlx_lm: 0.99): not byte for byte the weights of",
        ),
        (
            {"state": "completed", "exact": False, "label_reasons": ["edited"]},  # a code without words
            "Warm (edited: A person edited the configuration after the first attempt): not byte for byte",
        ),
        (
            {"state": "completed", "exact": False, "label_reasons": ["unproved_machine: nobody has tried"]},
            "Warm (unproved_machine: nobody has tried): not shown to be byte for byte the weights of",
        ),
        ({"state": "failed", "exact": True}, ""),
    ],
)
def test_exactness_is_said_in_words(make, values, expected):
    from stoker.supervisor.review.verdict import exactness

    said = exactness(make(attempts=[{"n": 1, "label_reasons": []}], **values))
    assert said.startswith(expected)
    assert bool(said) is bool(expected)


def test_nothing_is_called_exact_that_no_trainer_has_called_so(make):
    """A command of somebody's own cannot tell, and one that crashed while loading has not."""
    from stoker.supervisor.review.verdict import exactness

    assert exactness(make(state="completed", exact=True, attempts=[{"n": 1, "label_reasons": None}])) == ""


def test_a_failed_run_offers_what_to_do(make, now, printed):
    text = printed(page.render(make(state="failed", reason="no rung is left", attempts=[]), now=now))
    assert "stoker retry sft-4b_20260213_1430" in text
    assert "no attempt yet" in text


def test_hostile_evidence_prints_as_text(story_of, now, printed):
    show, decisions = story_of
    hostile = "[bold red]x[/bold red] \x1b]0;mine\x07\x1b[2J[link=http://x]y[/link] [/] \u202eabc \ud800"
    show["attempts"][0]["findings"] = [{"rule": "r", "file": "train.log", "line": 9, "text": hostile}]
    show["reason"] = show["name"] = hostile
    show["final"]["adapter"] = "/tmp/[red]adapter"
    show["adjustments"][0]["reason"] = hostile
    text = printed(page.render(show, decisions, now=now))
    assert "[bold red]x[/bold red]" in flat(text)
    assert "/tmp/[red]adapter" in text
    assert not set("\x1b\x07\u202e") & set(text)


def test_missing_values_do_not_break_the_page(now, printed):
    text = printed(
        page.render({"run_id": "r_1", "attempts": [{}, {"n": 2}], "adjustments": [{}], "final": None}, now=now)
    )
    assert "r_1" in text
    assert printed(page.render({}, now=now))


def test_ended_without_a_status_is_said(make, printed):
    attempt = {"n": 1, "from_iteration": 0, "to_iteration": 3, "ended_at": "2026-02-13T14:50:00Z"}
    assert "exit status lost" in printed(story({"attempts": [attempt]}))
    assert "still running" in printed(story({"attempts": [{"n": 1, "from_iteration": 0}]}))
    stopped = {**attempt, "exit_code": 75, "cause": "interrupted", "plan": None}
    assert "stopped on request" in flat(printed(story({"attempts": [stopped]})))


def test_a_command_without_iterations_is_not_measured_in_them(make, now):
    attempts = [{"n": 1, "cause": "unknown"}, {"n": 2}]
    run = make(state="failed", iteration=0, iters=None, reason="exit 3", attempts=attempts)
    assert verdict(run, now=now).startswith("Failed at iteration 0, over 2 attempts: exit 3. Before that: unknown;")
    run = make(state="completed", iteration=0, iters=None, attempts=[{"n": 1}], ettr=None)
    assert verdict(run, now=now).startswith("Completed in 1h 56m, in one attempt.")


def test_starting_over_is_called_so(printed):
    attempts = [{"n": 1, "from_iteration": 0, "plan": "resume", "cause": "unknown"}, {"n": 2, "from_iteration": 0}]
    decisions = [{"attempt": 1, "plan": "resume"}]
    assert "→ started again from iteration 0" in flat(printed(story({"attempts": attempts}, decisions)))


def test_a_stop_that_a_person_asked_for_is_no_recovery(make, now):
    attempts = [{"n": 1, "cause": "interrupted", "plan": None}, {"n": 2}]
    assert "Recovered" not in verdict(make(attempts=attempts), now=now)


def test_a_hold_that_asks_names_the_change_it_would_make(story_of, printed):
    show, decisions = story_of
    decisions[1]["plan"] = "hold"
    assert "→ held, on release micro_batch 8 → 4" in flat(printed(story(show, decisions)))


def test_a_run_under_way_says_how_often_its_state_is_kept_and_why(story_of, now):
    show, _ = story_of
    cost = {"bytes": 24_000_000_000, "stall_s": 0.2, "cost_s": 0.25, "next_s": 1036.8, "because": "write budget"}
    running = {**show, "state": "running", "cadence": cost}
    said = "Checkpoints of 24.0 GB about every 17m 16s (write budget), 0.25 s of training each."
    assert said in verdict(running, now=now)
    assert "heckpoints of" not in verdict({**running, "state": "completed"}, now=now)
    assert "heckpoints of" not in verdict({**running, "cadence": None}, now=now)
