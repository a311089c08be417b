"""Plain words for states and causes, and what a person can do about a run.

Everything works on the read models' dictionaries (DESIGN section 6) and bears missing values.
"""

import shlex
from collections.abc import Mapping
from typing import Any

from stoker.supervisor.review.format import clean, count, duration, figure, finite, plural, wall
from stoker.supervisor.states import ACTIVE, State
from stoker.supervisor.trainer.labels import Code

Run = Mapping[str, Any]

TRAINING: frozenset[str] = ACTIVE - {State.STARTING}  # a trainer is at work: its numbers are of now

# State -> colour, and why it is in that state where the record has no better reason.
STATES: Mapping[str, tuple[str, str]] = {
    "queued": ("cyan", "waits for a free slot"),
    "blocked": ("yellow", "waits for another run"),
    "starting": ("cyan", "the trainer is being started"),
    "running": ("green", ""),
    "stalled": ("yellow", "no sign of progress; Stoker is finding out why"),
    "stopping": ("yellow", "the trainer saves its last step and stops"),
    "waiting": ("yellow", "waits before the next attempt"),
    "held": ("yellow", "waits for you"),
    "completed": ("green", ""),
    "failed": ("red", ""),
    "cancelled": ("dim", "cancelled by you"),
}

CAUSES: Mapping[str, str] = {
    "healthy": "nothing went wrong",
    "oom": "out of memory",
    "resource_limit": "a limit of the system was reached",
    "gpu_timeout": "the GPU watchdog stopped a command that took too long",
    "gpu_error": "the GPU reported an error",
    "nan_loss": "the loss became NaN",
    "divergence": "the loss diverged",
    "loss_spike": "the loss jumped",
    "silent_gpu_failure": "the GPU computed wrong values without an error",
    "top_layers_only": "only the top layers were training",
    "checkpoint_corruption": "a checkpoint was damaged",
    "checkpoint_mismatch": "a checkpoint did not fit the model",
    "disk_full": "the disk was full",
    "data_error": "the training data was refused",
    "config_error": "the configuration was refused",
    "model_load_error": "the model could not be loaded",
    "dependency_error": "a package was missing or did not fit",
    "permission_denied": "permission was denied",
    "network_error": "the network failed",
    "distributed_error": "communication between the workers failed",
    "hang": "the trainer hung",
    "slowdown": "the trainer became slow",
    "segfault": "the trainer crashed (segmentation fault)",
    "aborted": "the trainer aborted",
    "killed": "the trainer was killed",
    "interrupted": "the trainer was asked to stop",
    "python_error": "the trainer ended with a Python error",
    "host_rebooted": "the machine was rebooted",
    "host_panic": "the machine panicked",
    "host_slept": "the machine slept",
    "unknown": "the cause is not known",
}

# Phase of the trainer's heartbeat -> what it is doing besides training.
PHASES: Mapping[str, str] = {
    "load": "loading the model",
    "compile": "compiling kernels",
    "validate": "validating",
    "checkpoint": "writing a checkpoint",
    "test": "testing",
}

# Action of a plan -> what was done, to be completed with the checkpoint.
ACTIONS: Mapping[str, str] = {
    "resume": "resumed",
    "rewind": "went back",
    "wait": "waited, then tried again",
    "hold": "held",
    "fail": "gave up",
    "complete": "completed",
}


# Code of a label -> its meaning, where the trainer said no more than the code.
LABELS: Mapping[str, str] = {code.value: f"{code}: {code.meaning.rstrip('.')}" for code in Code}


def colour(state: object) -> str:
    """Return the colour of a state."""
    return STATES.get(str(state), ("", ""))[0]


def cause(name: object) -> str:
    """Return a cause in plain words; one that this version does not know by its name."""
    return CAUSES.get(str(name), clean(name).replace("_", " "))


def action(name: object) -> str:
    """Return what was done in plain words; a plan that is a sentence already stays one."""
    return ACTIONS.get(str(name), clean(name))


def why(run: Run) -> str:
    """Return why the run is in its state; empty where the state says it all."""
    return clean(run.get("reason") or "") or STATES.get(str(run.get("state")), ("", ""))[1]


def doing(run: Run) -> str:
    """Return what the trainer does at the moment, where that is not training."""
    return PHASES.get(str(run.get("phase")), "") if run.get("state") in ACTIVE else ""


def until(run: Run, now: float) -> str:
    """Return when a waiting run goes on by itself: `next attempt in 3m 20s`."""
    wake = wall(run.get("wake_at"))
    if wake is None or run.get("state") != "waiting":
        return ""
    return f"next attempt in {duration(wake - now)}" if wake > now else "next attempt now"


def quoted(run: Run) -> str:
    """Return the run's id as a shell word."""
    return shlex.quote(clean(run.get("run_id") or ""))


def commands(run: Run) -> list[tuple[str, str]]:
    """Return the commands worth offering in this state, each with what it is for.

    The read model may name a better one in `command` (changed inputs, starting over, a lease that is still held).
    """
    state, run_id = run.get("state"), quoted(run)
    if offered := run.get("command"):
        return [("go on with:", clean(offered))]
    if state == "held":
        # A hold with a condition ends by itself; a person may still be faster.
        by_itself = run.get("release") in {"disk", "time"}
        return [("goes on by itself, or at once:" if by_itself else "go on with:", f"stoker release {run_id}")]
    if state == "failed":
        return [("why:", f"stoker explain {run_id}"), ("try again:", f"stoker retry {run_id}")]
    return [("see:", f"stoker logs {run_id} -f")] if state == "stalled" else []


def at_risk(run: Run) -> str:
    """Return what would be lost if the trainer died now: `would lose 340 iterations (2h 5m) if it died now`."""
    iterations = finite(run.get("at_risk_iterations"))
    if iterations is None or run.get("state") not in TRAINING:
        return ""
    if iterations <= 0:
        return "would lose nothing if it died now"
    seconds = finite(run.get("at_risk_s"))
    spent = f" ({duration(seconds)})" if seconds is not None else ""
    return f"would lose {plural(iterations, 'iteration')}{spent} if it died now"


def cadence(run: Run) -> str:
    """Return how often checkpoints are written, and why: `checkpoints of 24.0 GB about every 17m (write budget)`."""
    from stoker.supervisor.checks import in_bytes

    known = run.get("cadence") or {}
    every, size = finite(known.get("next_s")), finite(known.get("bytes"))
    if every is None or size is None or run.get("state") not in TRAINING:
        return ""
    cost = f", {figure(known['cost_s'])} s of training each" if finite(known.get("cost_s")) is not None else ""
    return f"checkpoints of {in_bytes(int(size))} about every {duration(every)} ({clean(known.get('because'))}){cost}"


def eta(run: Run) -> str:
    """Return the time that is left, only where the run is under way."""
    return duration(run.get("eta_s")) if run.get("state") in TRAINING | {"starting", "waiting"} else "-"


def place(run: Run) -> str:
    """Return how far the run is: `12,340/20,000`."""
    done, total = finite(run.get("iteration")), finite(run.get("iters"))
    if total is None:
        return "-" if done is None else count(done)
    return f"{count(done or 0)}/{count(total)}"


def value(item: object) -> str:
    """Return a configuration value or a number of a decision on one line."""
    if isinstance(item, float):
        return f"{item:g}"
    if isinstance(item, list | tuple):
        return ", ".join(value(part) for part in item) or "none"
    if isinstance(item, Mapping):
        return ", ".join(f"{clean(key)} {value(part)}" for key, part in item.items())
    if item is None:
        return "none"
    return str(item).lower() if isinstance(item, bool) else clean(item)


def change(adjustment: Mapping[str, Any]) -> str:
    """Return one change of configuration: `micro_batch 8 → 4`."""
    before, after = value(adjustment.get("from")), value(adjustment.get("to"))
    return f"{clean(adjustment.get('field', ''))} {before} → {after}"


def preserved(adjustment: Mapping[str, Any]) -> str:
    """Return what a change leaves as it was, and whether it changes the meaning of the run."""
    kept = ", ".join(clean(name).replace("_", " ") for name in adjustment.get("preserves") or ())
    lossy = "changes what is trained" if adjustment.get("lossy") else ""
    return "; ".join(part for part in (f"preserves {kept}" if kept else "", lossy) if part)


def why_changed(adjustment: Mapping[str, Any], *, told: str = "") -> str:
    """Return why a change was made, unless that was `told` already, and what it preserves."""
    reason = clean(adjustment.get("reason") or "")
    parts = ("" if reason == told else reason.rstrip("."), preserved(adjustment))
    return "; ".join(part for part in parts if part)


def file(finding: Mapping[str, Any]) -> str:
    """Return the name of the file a finding is from; its folder is the attempt's."""
    return clean(finding.get("file") or "").rsplit("/", 1)[-1]


def evidence(finding: Mapping[str, Any]) -> str:
    """Return where a finding was seen and what it says: `train.log:31  Killed: 9`."""
    line = finding.get("line")
    where = f"{file(finding)}:{line}" if file(finding) and line else file(finding)
    return "  ".join(part for part in (where, clean(finding.get("text") or "").strip()) if part)


def label(reason: object) -> str:
    """Return why a result is not exact: `micro_batch: 8 -> 4 at iteration 40`. The codes stand in docs/exactness.md."""
    code, colon, said = clean(reason).partition(":")
    return f"{code}: {said.strip()}" if colon else LABELS.get(code, code)


def ended(attempt: Mapping[str, Any]) -> str:
    """Return how an attempt's process ended: `SIGKILL`, `exit 70 (stopped by a guard)`, `still running`."""
    if signal := attempt.get("signal"):
        return clean(signal)
    code = attempt.get("exit_code")
    if code is None:
        return "exit status lost" if attempt.get("ended_at") else "still running"
    meaning = {75: " (saved and stopped)", 70: " (stopped by a guard)"}.get(code, "")
    return f"exit {code}{meaning}"


def loss(run: Run) -> str:
    """Return the newest loss."""
    return figure(run.get("loss"))


def lost(iterations: object, seconds: object = None) -> str:
    """Return `340 iterations (2h 5m)`, or `nothing`."""
    number = finite(iterations)
    if not number:
        return "nothing"
    spent = finite(seconds)
    return plural(number, "iteration") + (f" ({duration(spent)})" if spent else "")
