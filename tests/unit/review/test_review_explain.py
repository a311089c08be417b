import json
import re

from stoker.supervisor.review import explain as page
from stoker.supervisor.review.document import dumps
from stoker.supervisor.review.excerpt import Line, excerpt


def flat(text):
    return re.sub(r"\s+", " ", text)


def _none(_attempt, _file, _line):
    return ()


def test_each_attempt_is_explained_with_evidence_rule_policy_choice_and_change(story_of, now, printed):
    show, decisions = story_of

    def excerpts(attempt, file, line):
        assert (attempt, file) in {(1, "exit.json"), (2, "train.log")}
        return [Line(n, f"log line {n}") for n in range(line - 2, line + 3)] if file == "train.log" else ()

    text = flat(printed(page.render(show, decisions, excerpts, now=now)))
    assert "Attempt 2 iterations 40 → 55 · exact from 00000040-a1" in text
    assert "out of memory (oom, confidence 0.99) (simulated); exit 1" in text
    assert "train.log:6 rule oom.metal, root" in text
    assert "> 6 │ RuntimeError: [METAL] Insufficient Memory" in text
    assert "5 │ log line 5" in text
    assert "policy oom.micro_batch: memory ran out; fewer rows at a time change nothing else" in text
    assert "checkpoint 00000040-a1: the newest that is complete, verified" in text
    assert "quarantined 00000045-a1: weights.safetensors: sha256 differs" in text
    assert "change micro_batch 8 → 4: out of memory with rows of 8; preserves effective batch" in text
    assert "cost 8 iterations" in text
    assert "numbers peak memory 41.2 · free disk gb 300" in text


def test_the_cause_comes_before_other_findings(story_of, now, printed):
    show, decisions = story_of
    text = printed(page.render(show, decisions, _none, now=now))
    assert text.index("oom.metal") < text.index("trace.last")


def test_numbers_leave_out_nothings_and_advice_stands_at_the_end_only(story_of, now, printed):
    show, decisions = story_of
    decisions[0] |= {
        "numbers": {"onset": None, "good": [40, 20], "rung_used": 0, "lost_seconds_if_restarted": 7500.4, "target": 40},
        "advice": "look at the memory",
    }
    text = flat(printed(page.render(show, decisions, _none, now=now)))
    assert "numbers good 40, 20 · lost if restarted 2h 5m" in text
    assert "look at the memory" not in text
    show["attempts"] = show["attempts"][:1]
    assert "advice look at the memory" in flat(printed(page.render(show, decisions, _none, now=now)))


def test_a_clean_exit_without_success_says_what_was_missing(story_of, now, printed):
    show, decisions = story_of
    decisions[1]["missing"] = ["iteration 60 was not reported as the last one"]
    assert "missing" not in printed(page.render(show, decisions, _none, now=now))
    show["attempts"][1]["exit_code"] = 0
    assert "missing iteration 60 was not" in flat(printed(page.render(show, decisions, _none, now=now)))


def test_a_reason_that_was_told_is_not_told_again(story_of, now, printed):
    show, decisions = story_of
    decisions[1]["reason"] = decisions[1]["adjustment"]["reason"]
    text = flat(printed(page.render(show, decisions, _none, now=now)))
    assert text.count("out of memory with rows of 8") == 1
    assert "change micro_batch 8 → 4: preserves effective batch" in text


def test_an_absolute_name_of_the_log_is_shown_short(story_of, now, printed):
    show, decisions = story_of
    decisions[1]["findings"][1]["file"] = "/home/me/stoker/runs/sft/attempts/2/train.log"
    assert "evidence train.log:6 rule" in flat(printed(page.render(show, decisions, _none, now=now)))


def test_without_the_log_the_recorded_line_stands(story_of, now, printed):
    show, decisions = story_of
    assert "RuntimeError: [METAL] Insufficient Memory" in flat(printed(page.render(show, decisions, _none, now=now)))


def test_a_run_without_attempts_says_so(make, now, printed):
    text = printed(page.render(make(state="held", attempts=[]), [], _none, now=now))
    assert "No attempt yet" in text
    assert "stoker release" in text


def test_many_findings_are_cut_off(story_of, now, printed):
    show, decisions = story_of
    decisions[0]["findings"] = [{"rule": f"r{i}", "file": "train.log", "line": i, "text": "x"} for i in range(1, 20)]
    assert "... and 13 more" in printed(page.render(show, decisions, _none, now=now))


def test_hostile_lines_are_text(story_of, now, printed, tmp_path):
    show, decisions = story_of
    log = tmp_path / "train.log"
    log.write_bytes(b"[red]a[/red]\n\x1b]0;t\x07b\r\x1b[31mc [/]\n\xff\xfe[bold]\nd\n" + b"x" * 10_000 + b"\nf\n")
    decisions[1]["findings"][1]["line"] = 3
    text = printed(page.render(show, decisions, lambda _a, _f, line: excerpt(log, line), now=now))
    assert "1 │ [red]a[/red]" in text
    assert "2 │ c [/]" in text
    assert "[bold]" in text
    assert "\x1b" not in text


def test_the_json_form_carries_the_context(story_of):
    show, decisions = story_of
    form = json.loads(dumps(page.document(show, decisions, lambda _a, _f, line: [Line(line, "hit")])))
    assert form["run_id"] == show["run_id"]
    assert form["decisions"][0]["findings"][0]["context"] == [{"line": 1, "text": "hit"}]
    assert form["decisions"][1]["row"] == "oom.micro_batch"


def test_an_excerpt_is_found_deep_in_a_large_file(tmp_path):
    log = tmp_path / "train.log"
    log.write_bytes(b"".join(b"line %d %s\n" % (n, b"." * 90) for n in range(1, 40_001)))
    lines = excerpt(log, 39_998, around=2)
    assert [line.number for line in lines] == [39_996, 39_997, 39_998, 39_999, 40_000]
    assert lines[2].text.startswith("line 39998 ")
    assert [line.number for line in excerpt(log, 1, around=2)] == [1, 2, 3]
    assert excerpt(log, 50_000) == ()
    assert excerpt(tmp_path / "gone.log", 3) == ()


def test_a_very_long_line_counts_as_one(tmp_path):
    log = tmp_path / "train.log"
    log.write_bytes(b"a\n" + b"x" * 3_000_000 + b"\nhit\n")
    lines = excerpt(log, 3, around=2)
    assert [line.number for line in lines] == [1, 2, 3]
    assert lines[2].text == "hit"
    assert len(lines[1].text) == 300
