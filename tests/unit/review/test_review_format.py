import json
import math

import pytest

from stoker.supervisor.review import format as f
from stoker.supervisor.review.document import dumps

NOW = 1_771_000_000.0


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [
        (None, "-"),
        ("nan", "-"),
        (math.inf, "-"),
        (-3, "0s"),
        (0.25, "250ms"),
        (41.9, "41s"),
        (60, "1m"),
        (750, "12m 30s"),
        (8040, "2h 14m"),
        (86400 * 5 + 3 * 3600 + 59, "5d 3h"),
        (86400 * 400, "400d"),
    ],
)
def test_a_duration_has_two_units_at_most(seconds, expected):
    assert f.duration(seconds) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("plain", "plain"),
        ("\x1b[31mred\x1b[0m text", "red text"),
        ("\x1b]0;your terminal is mine\x07title", "title"),
        ("\x1b]8;;http://x\x1b\\link\x1b]8;;\x1b\\", "link"),
        ("\x1bPq payload \x1b\\after", "after"),
        ("\x1b[2J\x1b[Hcleared", "cleared"),
        ("cut off \x1b[31", "cut off 31"),
        ("bell\x07 back\x08 null\x00", "bell back null"),
        ("c1 \x9b31m csi", "c1 31m csi"),
        ("right \u202eto left", "right to left"),
        ("10%|#   |\r50%|##  |\r100%|####|", "100%|####|"),
        ("progress\r", "progress"),
        ("   \r  \r", ""),
        ("tab\there", "tab     here"),
        ("two\nlines", "two lines"),
        ("half \ud800 pair", "half  pair"),
        ("[bold]markup[/bold] :smile:", "[bold]markup[/bold] :smile:"),
    ],
)
def test_cleaned_text_holds_nothing_that_a_terminal_obeys(text, expected):
    assert f.clean(text) == expected
    assert f.clean(text).isprintable()


def test_with_colour_only_colours_survive_and_they_are_closed():
    assert f.clean("\x1b[2Ja \x1b[31mred\x1b]0;t\x07 b", colour=True) == "a \x1b[31mred b\x1b[0m"
    assert f.clean("no colour\x07", colour=True) == "no colour"


def test_shortening_counts_columns_not_characters():
    assert f.shorten("abcdef", 6) == "abcdef"
    assert f.shorten("abcdefg", 6) == "abcde…"
    assert f.shorten("模型模型", 5) == "模型…"
    assert f.cells("e\u0301模") == 3


def test_times_show_the_date_when_it_is_not_today():
    today = f.clock(NOW, NOW)
    assert len(today) == 5
    assert f.clock(NOW - 86400 * 3, NOW).endswith(today)
    assert f.clock(NOW - 86400 * 400, NOW)[:4] in {"2025", "2024"}
    assert f.clock("not a time", NOW) == "-"
    assert f.wall("2026-02-13T16:26:40Z") == NOW
    assert f.wall("2026-02-13T16:26:40") == NOW
    assert f.age("2026-02-13T16:24:40Z", NOW) == "2m"
    assert f.age(NOW + 60, NOW) == "0s"


def test_numbers_keep_four_digits_and_name_what_is_not_finite():
    assert [f.figure(v) for v in (1.23456, 0.0000123, 41.2, 5432.1, "nan", None)] == [
        "1.235",
        "1.23e-05",
        "41.2",
        "5,432",
        "nan",
        "-",
    ]
    assert f.percent(0.9999) == "99.9%"
    assert f.percent(1.0) == "100%"
    assert f.plural(1, "iteration") == "1 iteration"
    assert f.plural(1780, "iteration") == "1,780 iterations"


def test_a_bar_is_full_only_at_the_end():
    assert f.bar(0.999, 10) == "█████████░"
    assert f.bar(1.0, 10) == "█" * 10
    assert f.fraction(5, 0) is None
    assert f.fraction(None, 10) is None
    assert f.fraction(30, 20) == 1.0


def test_a_sparkline_leaves_out_what_is_not_finite():
    assert f.sparkline([4, "nan", 3, math.nan, 2, None, 1], 8) == "█▆▃▁"
    assert f.sparkline([1.0]) == ""
    assert f.sparkline([2, 2, 2]) == "▁▁▁"
    assert len(f.sparkline(list(range(1000)), 8)) == 8


def test_json_is_valid_json_whatever_the_numbers():
    text = dumps({"loss": math.nan, "list": (1.5, -math.inf), "text": "模\x1b", 3: None})
    assert json.loads(text) == {"loss": "nan", "list": [1.5, "-inf"], "text": "模\x1b", "3": None}
    assert text.isascii()
