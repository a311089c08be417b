"""Logs to causes: which evidence decides, and which does not."""

import json
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from stoker.recovery.diagnose import diagnose
from stoker.recovery.evidence import Evidence, Fault, Report, ending
from stoker.recovery.fingerprint import fingerprint
from stoker.supervisor import excerpt
from stoker.supervisor.cli.diagnose import diagnose as verb
from stoker.supervisor.errors import UsageError

LOGS = Path(__file__).parents[1] / "logs"
OOM = "RuntimeError: [malloc] Unable to allocate 16 bytes.\n"
STARTED = "Loading pretrained model\nLoading datasets\nTraining\nStarting training..., iters: 200\n"
REPORT = "Iter 20: Train loss 2.500, Learning Rate 1.000e-05, It/sec 0.5, Tokens/sec 512.0, Trained Tokens 9\n"


@pytest.mark.parametrize(
    ("name", "status", "cause", "rule", "line"),
    [
        ("classic_healthy", {"exit_code": 0}, "healthy", None, 0),
        ("classic_words_of_doom", {}, "healthy", None, 0),
        ("classic_oom_glued", {"signal": "SIGABRT"}, "oom", "memory.metal_command_buffer", 9),
        ("gpu_timeout_buffered_tail", {"exit_code": 1}, "gpu_timeout", "gpu.watchdog", 11),
        ("simulated_oom", {"exit_code": 1}, "oom", "memory.metal_command_buffer", 18),
        ("val_nan_is_healthy", {"exit_code": 0}, "healthy", None, 0),
        ("rich_nan", {"exit_code": 0}, "nan_loss", "series.nonfinite", 11),
        ("rich_healthy_terminal", {"exit_code": 0}, "healthy", None, 0),
        ("ranks_lost_exit_zero", {"exit_code": 0}, "distributed_error", "distributed.peer_lost", 14),
        ("rank_out_of_memory", {"exit_code": 0}, "oom", "memory.malloc", 20),
        ("checkpoint_truncated", {"exit_code": 1}, "checkpoint_corruption", "checkpoint.unreadable", 11),
        ("data_line_is_not_json", {"exit_code": 1}, "data_error", "data.json", 11),
        ("model_config_is_not_json", {"exit_code": 1}, "model_load_error", "model.damaged", 7),
        ("hub_without_network", {"exit_code": 1}, "network_error", "network.unreachable", 12),
        ("two_launches_in_one_log", {"exit_code": 0}, "healthy", None, 0),
        ("guard_nan", {"exit_code": 70}, "nan_loss", "trainer.guard", 9),
        ("swap_then_killed", {"signal": "SIGKILL"}, "oom", "series.swapping", 1),
        ("loss_collapsed", {"exit_code": 0}, "divergence", "series.frozen", 10),
        ("foreign_trainer", {"exit_code": 1}, "python_error", "python.exception", 8),
        ("interrupted_while_saving", {"exit_code": 130}, "interrupted", "process.keyboard_interrupt", 15),
        ("killed_without_a_word", {"signal": "SIGKILL"}, "killed", "ending.sigkill", 0),
        ("killed_without_a_word", {"exit_code": 137}, "killed", "ending.sigkill", 0),
        ("killed_without_a_word", {"exit_code": -11}, "segfault", "ending.segfault", 0),
        ("killed_without_a_word", {"signal": "SIGTERM"}, "interrupted", "ending.interrupted", 0),
        ("killed_without_a_word", {"exit_code": 75}, "interrupted", "ending.stopped", 0),
        ("killed_without_a_word", {"exit_code": 1}, "unknown", "ending.failed", 0),
        ("killed_without_a_word", {"exit_code": 0}, "unknown", "ending.short", 0),
        ("killed_without_a_word", {"running": True}, "hang", "ending.quiet", 0),
        ("killed_without_a_word", {}, "healthy", None, 0),
        ("killed_without_a_word", {"host": ("rebooted",)}, "host_rebooted", "host.rebooted", 0),
        ("killed_without_a_word", {"host": ("panic", "rebooted")}, "host_panic", "host.panic", 0),
        ("killed_without_a_word", {"host": ("jetsam",), "signal": "SIGKILL"}, "oom", "host.jetsam", 0),
        (
            "killed_without_a_word",
            {"signal": "SIGKILL", "stop_requested": True},
            "interrupted",
            "ending.stop_requested",
            0,
        ),
        ("classic_oom_glued", {"signal": "SIGABRT", "host": ("rebooted",)}, "oom", "memory.metal_command_buffer", 9),
    ],
)
def test_a_log_is_diagnosed(name, status, cause, rule, line):
    log = (LOGS / f"{name}.log").read_bytes().decode()
    found = diagnose(Evidence(log=log, log_name=f"{name}.log", **status))
    assert found.cause == cause, found.findings[:3]
    if rule is not None:
        assert (found.findings[0].rule, found.findings[0].line) == (rule, line)
    assert rule or not [finding for finding in found.findings if finding.cause == cause], "nothing speaks for healthy"


def test_an_exception_names_the_place_in_the_training_library():
    found = diagnose(Evidence(log=(LOGS / "gpu_timeout_buffered_tail.log").read_text(), exit_code=1))
    assert found.findings[0].text.endswith("(mlx_lm/tuner/trainer.py:331 in train)")


def test_a_simulated_fault_is_labelled():
    found = diagnose(Evidence(log=(LOGS / "simulated_oom.log").read_text(), exit_code=1))
    assert found.simulated
    assert found.findings[0].simulated
    assert not diagnose(Evidence(log=OOM, exit_code=1)).simulated


def test_the_fault_row_of_our_trainer_decides_and_gives_the_onset():
    fault = Fault("nan_loss", 61, "train loss is nan", last_finite_iteration=60)
    found = diagnose(Evidence(log=STARTED + OOM, exit_code=70, fault=fault))
    assert (found.cause, found.onset, found.findings[0].file) == ("nan_loss", 61, "metrics.jsonl")


def test_a_fault_of_no_iteration_has_no_onset():
    """A full disk spoils no checkpoint: with an onset at 0 none would count as good."""
    fault = Fault("disk_full", 0, "3.00 GB free")
    found = diagnose(Evidence(log=STARTED, exit_code=70, iteration=50, fault=fault))
    assert (found.cause, found.onset) == ("disk_full", None)


def test_a_guard_line_gives_the_onset_when_there_is_no_row():
    assert diagnose(Evidence(log=(LOGS / "guard_nan.log").read_text(), exit_code=70)).onset == 61
    assert diagnose(Evidence(log="stoker: data_error: no target tokens at iteration 3\n", exit_code=70)).onset is None


def test_metrics_are_preferred_to_the_log_and_give_the_onset():
    reports = (Report(10, 2.0), Report(20, float("nan")))
    found = diagnose(Evidence(log=STARTED, exit_code=0, reports=reports))
    assert (found.cause, found.onset) == ("nan_loss", 20)


def test_a_run_that_was_judged_a_success_is_healthy_whatever_it_printed():
    log = (LOGS / "loss_collapsed.log").read_text()
    assert diagnose(Evidence(log=log, exit_code=0, success=True)).cause == "healthy"


def test_exit_code_zero_is_not_success():
    complete = STARTED + REPORT.replace("Iter 20", "Iter 200") + "Saved final weights to a.safetensors.\n"
    assert diagnose(Evidence(log=complete, exit_code=0)).cause == "healthy"
    assert diagnose(Evidence(log=complete, exit_code=0, success=False)).cause == "unknown"


def test_the_first_gpu_code_decides():
    line = "RuntimeError: [METAL] Command buffer execution failed: {} ({}:kIOGPUCommandBufferCallbackError{}).\n"
    timeout = line.format("Caused GPU Timeout Error", "00000002", "Timeout")
    ignored = line.format("Ignored (for causing prior/excessive GPU errors)", "00000004", "SubmissionsIgnored")
    victim = line.format("Discarded (victim of GPU error/recovery)", "00000005", "InnocentVictim")
    hang = line.format("Caused GPU Hang Error", "00000003", "Hang")
    assert diagnose(Evidence(log=timeout + ignored, exit_code=1)).findings[0].rule == "gpu.watchdog"
    assert diagnose(Evidence(log=ignored + timeout, exit_code=1)).findings[0].rule == "gpu.watchdog"
    assert diagnose(Evidence(log=hang + victim, exit_code=1)).findings[0].rule == "gpu.hang"
    assert diagnose(Evidence(log=victim + hang, exit_code=1)).findings[0].rule == "gpu.victim"
    assert diagnose(Evidence(log=ignored, exit_code=1)).cause == "gpu_error"


def test_an_error_that_the_trainer_survived_does_not_decide():
    assert diagnose(Evidence(log=STARTED + OOM + REPORT)).cause == "healthy"
    killed = diagnose(Evidence(log=STARTED + OOM + REPORT, signal="SIGKILL"))
    assert killed.cause == "killed"
    silent = diagnose(Evidence(log=STARTED + OOM + REPORT, exit_code=1))
    assert (silent.cause, silent.confidence < 0.5) == ("oom", True)


def test_lines_flushed_after_the_traceback_are_no_sign_of_life():
    assert diagnose(Evidence(log=OOM + STARTED, exit_code=1)).cause == "oom"
    assert diagnose(Evidence(log=OOM + STARTED)).cause == "healthy"


def test_the_wrapper_of_a_chain_of_exceptions_decides():
    log = (
        'Traceback (most recent call last):\n  File "/v/mlx_lm/tuner/callbacks.py", line 122, in get\n    x\n'
        "KeyError: 'rank'\n\n"
        "The above exception was the direct cause of the following exception:\n\n"
        'Traceback (most recent call last):\n  File "/v/mlx_lm/lora.py", line 340, in run\n    y\n'
        "ValueError: tensorboard callback doesn't exist choose from wandb, swanlab\n"
    )
    assert diagnose(Evidence(log=log, exit_code=1)).findings[0].rule == "config.report_to"


def test_stacks_on_request_are_not_errors():
    stack = (
        'Thread 0x7ff3 (most recent call first):\n  File "/v/threading.py", line 331 in wait\n\nCurrent thread 0x1:\n'
    )
    assert diagnose(Evidence(log=STARTED + REPORT + stack)).cause == "healthy"


def test_the_fingerprint_ignores_numbers_paths_and_addresses():
    one = diagnose(Evidence(log="RuntimeError: [malloc] Unable to allocate 16 bytes.\n", exit_code=1))
    two = diagnose(Evidence(log=STARTED + "RuntimeError: [malloc] Unable to allocate 8589934592 bytes.\n", exit_code=1))
    other = diagnose(Evidence(log="RuntimeError: [metal::malloc] Resource limit (499000) exceeded.\n", exit_code=1))
    assert one.fingerprint == two.fingerprint != other.fingerprint
    assert fingerprint("at 0x10ab /a/b/c.py 12") == fingerprint("at 0x99ff /z/c.py 7,123.5")
    assert not diagnose(Evidence(log=STARTED)).fingerprint


@pytest.mark.parametrize(
    ("code", "signal", "is_"),
    [
        (0, None, (0, None)),
        (-9, None, (None, "SIGKILL")),
        (137, None, (None, "SIGKILL")),
        (135, None, (None, "SIGBUS")),
        (138, None, (None, "SIGBUS")),
        (None, "kill", (None, "SIGKILL")),
        (None, "SIGTERM", (None, "SIGTERM")),
        (None, "9", (None, "SIGKILL")),
        (255, None, (255, None)),
        (None, None, (None, None)),
    ],
)
def test_exit_statuses_in_all_their_spellings(code, signal, is_):
    assert ending(code, signal) == is_


def run(*args, stdin=None):
    app = typer.Typer()
    app.command()(verb)
    return CliRunner().invoke(app, [str(arg) for arg in args], input=stdin)


def test_the_verb_prints_the_shape_that_is_promised():
    document = json.loads(run(LOGS / "classic_oom_glued.log", "--signal", "SIGABRT", "--json").stdout)
    assert (document["cause"], document["retryable"]) == ("oom", "adjusted")
    assert {"cause", "confidence", "findings", "retryable", "advice"} <= set(document)
    assert {"rule", "file", "line", "text"} <= set(document["findings"][0])
    assert document["findings"][0]["file"] == str(LOGS / "classic_oom_glued.log")


def test_the_verb_reads_stdin_and_prints_for_people():
    result = run("-", "--exit-code", "-9", stdin=STARTED + REPORT)
    assert result.exit_code == 0
    assert "cause      killed" in result.stdout
    assert "ending.sigkill" in result.stdout


def test_the_verb_refuses_what_cannot_be(tmp_path):
    assert isinstance(run(tmp_path / "none.log").exception, UsageError)
    assert isinstance(run(LOGS / "rich_nan.log", "--running", "--exit-code", "1").exception, UsageError)
    bad = tmp_path / "rules.yaml"
    bad.write_text("- {id: my.x}")
    assert isinstance(run(LOGS / "rich_nan.log", "--rules", bad).exception, UsageError)


@pytest.mark.parametrize("newline_at", [50, None])
def test_a_huge_log_keeps_its_line_numbers(tmp_path, monkeypatch, newline_at):
    monkeypatch.setattr(excerpt, "HEAD", 1000)
    monkeypatch.setattr(excerpt, "TAIL", 3000)
    monkeypatch.setattr(excerpt, "_CHUNK", 512)
    head = "x" * 40 + "\n" if newline_at else "y" * 2500 + "\n"
    lines = [head, *[f"chatter number {n}\n" for n in range(2000)], OOM]
    path = tmp_path / "huge.log"
    path.write_text("".join(lines))
    part = excerpt.read_excerpt(path)
    assert part.skipped is not None
    assert len(part.text) < 5000
    found = diagnose(Evidence(log=part.text, skipped=part.skipped, exit_code=1))
    assert found.findings[0].line == len(lines)


def test_a_log_that_fits_is_read_whole(tmp_path):
    path = tmp_path / "small.log"
    path.write_text("a\nb\n")
    assert excerpt.read_excerpt(path) == excerpt.Excerpt("a\nb\n")
