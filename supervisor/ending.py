"""What an attempt left behind when it ended: exit status, progress, metrics, and whether it succeeded."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stoker.recovery.checkpoint.origin import Origin
from stoker.recovery.checkpoint.verify import verify
from stoker.supervisor.files import read_json, read_lines
from stoker.supervisor.paths import AttemptPaths


@dataclass(frozen=True, slots=True)
class Ending:
    """How an attempt ended, read from its folder.

    Attributes:
        known: the shim recorded the exit; False after a power loss or when the shim was killed as well.
        code, signal: exit status of the trainer; one of them is None.
        iteration: last completed iteration, from the heartbeat.
        phase: what it was doing.
        rows: its metrics.jsonl.
        ended_at: wall clock of the exit.
    """

    known: bool
    code: int | None
    signal: str | None
    iteration: int
    phase: str | None
    rows: tuple[dict[str, Any], ...]
    ended_at: float | None

    def last(self, kind: str) -> dict[str, Any] | None:
        """Return the newest metrics row of a kind."""
        return next((row for row in reversed(self.rows) if row.get("kind") == kind), None)

    @property
    def train_seconds(self) -> float:
        """Seconds from the first to the last report of training."""
        times = [float(row["t"]) for row in self.rows if row.get("kind") in {"start", "train", "final"} and "t" in row]
        return max(times) - min(times) if len(times) > 1 else 0.0


def read_heartbeat(path: Path) -> dict[str, Any]:
    """Return the heartbeat; an empty mapping when there is none, or it was caught half-written."""
    return read_json(path) or {}


def read_ending(attempt: AttemptPaths) -> Ending:
    """Read what an ended attempt left in its folder."""
    exit_row = read_json(attempt.exit)
    beat = read_heartbeat(attempt.heartbeat)
    rows = tuple(read_lines(attempt.metrics))
    progress = [int(row.get("iteration") or 0) for row in rows if row.get("kind") in {"train", "checkpoint", "final"}]
    return Ending(
        known=exit_row is not None,
        code=exit_row.get("code") if exit_row else None,
        signal=exit_row.get("signal") if exit_row else None,
        iteration=max([int(beat.get("iteration") or 0), *progress]),
        phase=beat.get("phase"),
        rows=rows,
        ended_at=exit_row.get("ended_at") if exit_row else None,
    )


@dataclass(frozen=True, slots=True)
class Success:
    """The verdict on an attempt's success, by evidence and not by exit code alone (promise 8).

    Attributes:
        reached: all evidence is there.
        missing: what is not, in words.
        final: adapter, sha256 and loss for `show`.
    """

    reached: bool
    missing: tuple[str, ...] = ()
    final: Mapping[str, Any] | None = None


def judge(ending: Ending, evidence: tuple[str, ...], iters: int | None, origin: Origin | None = None) -> Success:
    """Hold an ending against the evidence that its trainer's row demands.

    Args:
        ending: what the attempt left behind.
        evidence: names from the trainer's row: `exit_zero`, `last_iteration`, `adapter_verified`, `finite`, `changed`.
        iters: the iterations asked for.
        origin: the configuration and the base model that the final adapter must fit; None = as the files beside it say.
    """
    missing: list[str] = []
    final = ending.last("final")
    if "exit_zero" in evidence and ending.code != 0:
        missing.append(f"exit status {ending.signal or ending.code}, not 0")
    if "last_iteration" in evidence and (final is None or final.get("iteration") != iters):
        missing.append(f"iteration {iters} was not reported as the last one")
    if final is not None:
        if "adapter_verified" in evidence and (problem := _adapter_problem(final, origin)):
            missing.append(problem)
        if "finite" in evidence and not final.get("finite"):
            missing.append("the final weights are not finite")
        if "changed" in evidence and not final.get("changed"):
            missing.append("the final weights equal those at the start")
    result = (
        {key: final.get(key) for key in ("adapter", "sha256")} | {"loss": final.get("train_loss")} if final else None
    )
    return Success(reached=not missing, missing=tuple(missing), final=result)


def _adapter_problem(final: Mapping[str, Any], origin: Origin | None) -> str | None:
    path = Path(str(final.get("adapter")))
    verdict = verify(path, finite=False, origin=origin)  # the trainer has looked at the values that this hash is of
    if verdict.sha256 is None:
        return f"the final adapter {path} cannot be read: {verdict.problems[0]}"
    wrote = str(final.get("sha256"))
    if verdict.sha256 != wrote:
        return f"{path} is not what the trainer wrote (sha256 {verdict.sha256[:12]}, expected {wrote[:12]})"
    return f"the final adapter is not good: {path.parent / verdict.problems[0]}" if verdict.problems else None
