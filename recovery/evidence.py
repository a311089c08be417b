"""What was seen of an attempt: the values that a diagnosis is made from."""

import signal as signals
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Report:
    """One report of the trainer: a train report, a validation report, or both.

    Attributes:
        iteration: as the trainer prints it.
        train_loss, val_loss: nan and inf are kept as such; None = not part of this report.
        learning_rate: in effect at that iteration.
        tokens_per_second: training throughput.
        peak_memory: GB (1e9 bytes).
        line: 1-based line of the log; None for reports from metrics.jsonl.
        trained_tokens: target tokens trained on since the start.
    """

    iteration: int
    train_loss: float | None = None
    val_loss: float | None = None
    learning_rate: float | None = None
    tokens_per_second: float | None = None
    peak_memory: float | None = None
    line: int | None = None
    trained_tokens: float | None = None


@dataclass(frozen=True, slots=True)
class Fault:
    """What one of the trainer's own guards wrote down before it stopped the attempt.

    Attributes:
        cause: a cause of the diagnosis.
        iteration: at which the guard fired; it is the onset. None = before the first one.
        what: one sentence.
        last_finite_iteration: of the last report with finite numbers.
        simulated: a drill pretended this fault.
    """

    cause: str
    iteration: int | None
    what: str
    last_finite_iteration: int | None = None
    simulated: bool = False


@dataclass(frozen=True, slots=True)
class Skipped:
    """A middle part of a huge log that was not read.

    Attributes:
        after: number of lines of the text before the gap.
        lines: how many lines the gap has, so that line numbers behind it are true.
    """

    after: int
    lines: int


@dataclass(frozen=True, slots=True)
class Evidence:
    """Everything that is known about how an attempt went.

    Attributes:
        log: the trainer's output, raw (carriage returns and colour codes included).
        log_name: how findings name that file.
        exit_code: None = not known, or ended by a signal, or still running; negative and 128+n forms are understood.
        signal: name of the signal that ended it.
        running: the process is still there although it went quiet.
        phase, iteration: from the heartbeat.
        iters: how many iterations the job asks for.
        reports: from metrics.jsonl; empty = taken from the log.
        fault: the guard's row of metrics.jsonl.
        host: what happened to the machine: `rebooted`, `slept`, `panic`, `jetsam`.
        stop_requested: Stoker itself asked the trainer to stop.
        success: verdict of the success evidence; None = not judged.
        config: the job's mlx-lm keys, for advice.
        skipped: the part of a huge log that `log` leaves out.
    """

    log: str
    log_name: str = "train.log"
    exit_code: int | None = None
    signal: str | None = None
    running: bool = False
    phase: str | None = None
    iteration: int | None = None
    iters: int | None = None
    reports: tuple[Report, ...] = ()
    fault: Fault | None = None
    host: tuple[str, ...] = ()
    stop_requested: bool = False
    success: bool | None = None
    config: Mapping[str, Any] = field(default_factory=dict)
    skipped: Skipped | None = None


# 128 + n as shells print it. SIGBUS is 7 on Linux and 10 on macOS.
_SHELL_SIGNALS = {
    1: "SIGHUP",
    2: "SIGINT",
    3: "SIGQUIT",
    4: "SIGILL",
    5: "SIGTRAP",
    6: "SIGABRT",
    7: "SIGBUS",
    8: "SIGFPE",
    9: "SIGKILL",
    10: "SIGBUS",
    11: "SIGSEGV",
    13: "SIGPIPE",
    15: "SIGTERM",
    24: "SIGXCPU",
    25: "SIGXFSZ",
}


def ending(exit_code: int | None, signal: str | None) -> tuple[int | None, str | None]:
    """Return (exit code, signal name) with exactly one of them set where the status is known.

    `-9` (subprocess), `137` (shell), `9`, `KILL` and `SIGKILL` all mean SIGKILL.
    """
    if signal:
        name = signal.upper()
        if name.isdigit():
            return None, _SHELL_SIGNALS.get(int(name), f"SIG{name}")
        return None, name if name.startswith("SIG") else f"SIG{name}"
    if exit_code is not None and exit_code < 0:
        known = {s.value: s.name for s in signals.Signals}
        return None, known.get(-exit_code, f"SIG{-exit_code}")
    if exit_code is not None and exit_code - 128 in _SHELL_SIGNALS:
        return None, _SHELL_SIGNALS[exit_code - 128]
    return exit_code, None
