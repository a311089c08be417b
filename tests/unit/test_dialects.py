"""What log lines say, in both dialects of mlx-lm, on a terminal and in a pipe."""

import math

import pytest

from stoker.recovery.dialects.events import Event
from stoker.recovery.dialects.lines import read_lines
from stoker.recovery.dialects.parse import parse_log
from stoker.recovery.evidence import Report, Skipped

CLASSIC = (
    "Iter 10: Train loss 2.345, Learning Rate 1.000e-05, It/sec 1.131, Tokens/sec 544.315, "
    "Trained Tokens 4812, Peak mem 10.221 GB"
)


def only(text):
    reports, events = parse_log(text)
    assert len(reports) + len(events) == 1, (reports, events)
    return (*reports, *events)[0]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            CLASSIC,
            Report(10, 2.345, None, 1e-5, 544.315, 10.221, 1, 4812),
        ),
        (
            "Iter 10: Train loss 2.345, It/sec 1.131, Tokens/sec 544.315",
            Report(10, 2.345, None, None, 544.315, None, 1),
        ),
        ("Iter 60: Train loss 0.35, Learning Rate 5.000e-05", Report(60, 0.35, learning_rate=5e-5, line=1)),
        ("Iter 1: Val loss 2.866, Val took 12.117s", Report(1, val_loss=2.866, line=1)),
        ("     5    8.048 ▼    1,044      0.7k", Report(5, 8.048, tokens_per_second=1044, line=1, trained_tokens=700)),
        ("  12000    1.048 ▲      986  12345.6k", Report(12000, 1.048, None, None, 986, None, 1, 12345600)),
        ("  12000    1.048 ?      986     12.5M", Report(12000, 1.048, None, None, 986, None, 1, 12500000)),
        ("    10    val 7.605    0.24s", Report(10, val_loss=7.605, line=1)),
        (
            "  \x1b[38;5;244m   5\x1b[0m    \x1b[1;32m8.048 ▼\x1b[0m    \x1b[1m  812\x1b[0m    \x1b[38;5;244m  0.7k\x1b[0m",
            Report(5, 8.048, None, None, 812, None, 1, 700),
        ),
        ("Starting training..., iters: 1000", Event("started", 1, value=1000)),
        ("  iter   train_loss     tok/s     tokens", Event("started", 1)),
        (
            "Iter 100: Saved adapter weights to a/adapters.safetensors and a/0000100_adapters.safetensors.",
            Event("saved", 1, "a/adapters.safetensors and a/0000100_adapters.safetensors", 100),
        ),
        ("  save  0000020_adapters.safetensors", Event("saved", 1, "0000020_adapters.safetensors", 20)),
        ("Saved final weights to a/adapters.safetensors.", Event("final_saved", 1, "a/adapters.safetensors")),
        ("Trainable parameters: 81.854% (0.148M/0.181M)", Event("trainable", 1, value=81.854)),
        ("Loading fine-tuned weights from ck/a.safetensors", Event("resumed_from", 1, "ck/a.safetensors")),
        ("train ██████████████████████████████ 100% · 1,200/1,200", Event("progress", 1, value=1200, of=1200)),
        ("Test loss 7.331, Test ppl 1526.525.", Event("test", 1)),
        ("Testing", Event("testing", 1)),
        ("Warning: Validation set not found or empty.", Event("warning", 1, "Validation set not found or empty.")),
        ("stoker: drill: oom is simulated on this backend", Event("drill", 1, "oom")),
        ("step 120 | loss 1.23 | lr 1e-5", Report(120, 1.23, line=1)),
        ("{'loss': 1.23, 'learning_rate': 1e-05, 'epoch': 0.1}", Report(1, 1.23, line=1)),
    ],
)
def test_a_line_says(text, said):
    assert only(text) == said


@pytest.mark.parametrize(
    "text",
    [
        "    10      nan ▼      986      1.4k",
        "Iter 10: Train loss nan, It/sec 1.0, Tokens/sec 2.0",
        "     9    nan    986    1.4k",
    ],
)
def test_nan_is_a_report_like_any_other(text):
    loss = only(text).train_loss
    assert loss is not None
    assert math.isnan(loss)


@pytest.mark.parametrize("text", ["    10    val   nan    0.12s", "Iter 10: Val loss nan, Val took 0.001s"])
def test_validation_nan_is_kept_apart_from_the_train_loss(text):
    report = only(text)
    assert report.train_loss is None
    assert math.isnan(report.val_loss)


@pytest.mark.parametrize(
    "text",
    [
        'f"Iter {it}: Train loss {train_loss:.3f}, "',
        "the loss was 3 at some step",
        "    5    8.048",
        "Loading pretrained models of everything",
    ],
)
def test_other_lines_say_nothing(text):
    assert parse_log(text) == ((), ())


def test_carriage_returns_colours_and_glued_output_keep_their_line_number():
    text = "one\r\n\x1b[1mtwo\x1b[0m\rthree\n\n 50%|##| 1/2 [00:01<00:01,  1.15s/it]zsh: killed\n"
    text += "Peak mem 0.013 GB/opt/x.py\n"
    assert [(line.number, line.text) for line in read_lines(text)] == [
        (1, "one"),
        (2, "two"),
        (2, "three"),
        (4, " 50%|##| 1/2 [00:01<00:01,  1.15s/it]"),
        (4, "zsh: killed"),
        (5, "Peak mem 0.013 GB"),
        (5, "/opt/x.py"),
    ]


def test_a_gap_moves_the_line_numbers_behind_it():
    numbers = [line.number for line in read_lines("a\nb\nc\nd\n", Skipped(after=2, lines=1000))]
    assert numbers == [1, 2, 1003, 1004]


def test_reports_of_mlx_lm_hide_those_of_a_foreign_look():
    reports, _ = parse_log("step 1 loss 9.0\nIter 10: Train loss 2.0, It/sec 1.0, Tokens/sec 2.0\n")
    assert [report.iteration for report in reports] == [10]
