import re

from stoker.supervisor.review import runs, status
from stoker.supervisor.review.columns import Column, table

ANSI = re.compile(r"\x1b\[[0-9;]*m")


def test_the_page_says_what_runs_what_waits_and_what_to_type(page, now):
    text = status.render(page, now=now)
    assert text.startswith("● daemon running (pid 4242) · 1 running, 1 held, 1 queued, 1 failed")
    assert "12,340/20,000" in text
    assert "would lose 340 iterations (2h 5m) if it died now" in text.replace("\n    ", " ")
    assert "stoker release dpo-32b_20260212_0930" in text
    assert "stoker retry bad_1" in text
    assert "stoker explain bad_1" in text
    assert "q queued: waits for a free slot" in text
    assert max(len(line) for line in text.splitlines()) <= 80
    assert "\x1b" not in text


def test_colours_change_nothing_but_colours(page, now):
    assert ANSI.sub("", status.render(page, now=now, colour=True)) == status.render(page, now=now)


def test_columns_that_say_nothing_are_hidden(make, now):
    one = {"daemon": {"running": True, "pid": 1}, "runs": [make(attempt=1, ettr=1.0, tokens_per_second=None)]}
    head = status.render(one, now=now, width=None).splitlines()[2]
    assert "attempt" not in head
    assert "ETTR" not in head
    assert "tok/s" not in head
    assert "priority" not in head
    assert "loss" in head


def test_with_the_daemon_down_it_says_so_and_what_that_means(make, now):
    text = status.render({"daemon": {"running": False, "pid": None}, "runs": [make()]}, now=now)
    assert text.startswith("○ daemon not running · 1 running")
    assert "Trainers go on by themselves" in text
    assert "stoker run" in text
    empty = status.render({"daemon": {"running": False, "pid": None}, "runs": []}, now=now)
    assert "no runs" in empty


def test_an_empty_page_offers_the_first_command(now):
    assert status.render({"daemon": {"running": True, "pid": 7}, "runs": []}, now=now).endswith("stoker submit FILE")


def test_runs_of_one_name_are_called_by_their_ids(make, now):
    both = {"daemon": {}, "runs": [make(), make(run_id="sft-4b_20260212_0900", state="queued")]}
    text = status.render(both, now=now)
    assert "sft-4b_20260213_1430" in text
    assert "sft-4b_20260212_0900" in text


def test_missing_values_are_dashes_not_errors(now):
    text = status.render({"runs": [{"run_id": "r_1", "state": "running"}, {}]}, now=now)
    assert "r_1" in text
    assert "None" not in text
    assert "None" not in runs.render({"runs": [{"run_id": "r_1"}, {}]}, now=now)


def test_hostile_names_and_reasons_are_harmless(make, now):
    bad = make(name="\x1b[2Jx", run_id="x\x07_1", state="held", reason="\x1b]0;t\x07[red]no[/red]\nstoker cancel all")
    for text in (
        status.render({"runs": [bad]}, now=now),
        runs.render({"runs": [bad]}, now=now, width=None),
        status.progress_line(bad),
    ):
        assert "\x1b" not in text
        assert "\x07" not in text
        assert "[red]no[/red] stoker cancel all" in text.replace("\n    ", " ")


def test_a_hold_offers_the_command_that_ends_it(make, now):
    by_person = status.render({"runs": [make(state="held", reason="paused by you", release="person")]}, now=now)
    assert "go on with: stoker release sft-4b_20260213_1430" in by_person
    named = make(state="held", reason="the data changed", command="stoker resume sft-4b --accept-changed-data")
    text = status.render({"runs": [named]}, now=now)
    assert "go on with: stoker resume sft-4b --accept-changed-data" in text
    assert "stoker release" not in text


def test_a_command_is_never_broken_over_lines(make, now):
    long = "a-very-long-name-of-a-run-that-nobody-should-choose-but-somebody-will_20260213_1430"
    text = status.render({"runs": [make(run_id=long, name="x", state="held")]}, now=now)
    assert f"stoker release {long}\n" in f"{text}\n"


def test_a_waiting_run_says_when_it_goes_on(make, now):
    text = status.render({"runs": [make(state="waiting", reason="the network failed", wake_at=now + 200)]}, now=now)
    assert "the network failed; next attempt in 3m 20s" in text


def test_old_speeds_are_not_shown_for_a_run_that_does_not_train(make, now):
    text = status.render({"runs": [make(state="held")]}, now=now, width=None)
    assert "543" not in text
    assert "if it died" not in text


def test_the_progress_line_fits_a_terminal_line(make):
    line = status.progress_line(make())
    assert line == "sft-4b  running  attempt 2  ██████░░░░ 12,340/20,000  loss 1.234  543 tok/s  eta 2d 4h"
    assert status.progress_line({}) == ""


def test_ten_thousand_runs_are_one_table(make, now):
    many = [make(run_id=f"run-{i}_20260213", name=f"run-{i}", state="completed") for i in range(10_000)]
    text = runs.render({"runs": many}, now=now)
    assert text.count("\n") == 10_000
    limited = runs.render({"runs": many}, now=now, limit=50)
    assert limited.endswith("... 9,950 older runs; all of them: stoker runs --all")
    assert limited.count("\n") == 51


def test_a_name_that_the_id_holds_is_not_repeated(make, now):
    page = {"runs": [make(name="sft-4b", run_id="sft_4b_20260213_1430")]}
    assert "name" not in runs.render(page, now=now, width=None).splitlines()[0]
    page = {"runs": [make(name="other", run_id="sft_4b_20260213_1430")]}
    assert "other" in runs.render(page, now=now, width=None)


def test_runs_shows_ended_ones_with_what_they_took(make, now):
    done = make(state="completed", started_at="2026-02-13T14:00:00Z", ended_at="2026-02-13T16:14:00Z", attempt=1)
    text = runs.render({"runs": [done]}, now=now)
    assert "2h 14m" in text
    assert "attempts" not in text
    assert runs.render({"runs": []}, now=now) == "no runs; start one: stoker submit FILE"


def test_a_narrow_terminal_loses_columns_before_it_loses_ids(page, now):
    for width in (40, 60, 80, 200):
        lines = runs.render(page, now=now, width=width).splitlines()
        assert max(len(line) for line in lines) <= width
        assert "dpo-32b_20260212_0930" in "\n".join(lines)


def test_a_table_shortens_before_it_drops():
    columns = [Column("id", lambda r: r["id"]), Column("why", lambda r: r["why"], shrink=6, drop=1)]
    rows = [{"id": "1234567890", "why": "a long reason"}]
    assert table(columns, rows, width=20, colour=False) == ["id          why", "1234567890  a long …"]
    assert table(columns, rows, width=12, colour=False) == ["id", "1234567890"]
    assert table(columns, [], width=20, colour=False) == [""]
