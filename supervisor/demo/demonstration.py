"""The demonstration: real training of a tiny model dies in four ways under a real daemon, and ends well.

Everything is real: mlx-lm, the daemon, the kills, the damaged checkpoint, the NaN. Only running out of memory is
simulated where mlx's CPU backend has no such error, and it is labelled so.
"""

import hashlib
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stoker.supervisor.demo import jobs
from stoker.supervisor.demo.tiny import make_tiny
from stoker.supervisor.errors import StokerError
from stoker.supervisor.paths import Home
from stoker.supervisor.review.story import progress_line, story
from stoker.supervisor.store.read import Reader

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rich.console import RenderableType

_LOOK_S = 0.25
_LIMIT_S = 1200.0  # a machine far slower than any we know; then the demonstration has failed, not the machine
_ENDED = {"completed", "failed", "cancelled", "held"}


@dataclass(frozen=True, slots=True)
class Claim:
    """One thing that the demonstration promises, and whether it came true."""

    text: str
    true: bool


@dataclass(frozen=True, slots=True)
class Stage:
    """Where the demonstration speaks: lines of progress and tables."""

    say: Callable[[str], None]
    show: "Callable[[RenderableType], None]"


def perform(folder: Path, stage: Stage) -> list[Claim]:
    """Run the demonstration in `folder` and return its claims.

    Raises:
        StokerError: it could not be performed at all.
    """
    began = time.monotonic()
    tiny = make_tiny(folder)
    home = Home(folder / "home")
    home.create()
    stage.say(f"a tiny qwen3, its tokenizer and data: {folder}")
    with _daemon(home, folder / "daemon.out"):
        claims = _four_faults(home, folder, tiny, stage)
        claims += _only_kills(home, folder, tiny, stage)
    stage.say(f"{time.monotonic() - began:.0f} s in all")
    return claims


def _four_faults(home: Home, folder: Path, tiny: Any, stage: Stage) -> list[Claim]:
    stage.say("\nOne run that runs out of memory, is killed, loses its newest checkpoint and meets NaN twice:")
    shown, decisions = _run(home, jobs.write(jobs.four_faults(tiny), folder / "four-faults.yaml"), stage)
    stage.show(story(shown, decisions))
    causes = [attempt["cause"] for attempt in shown["attempts"]]
    changes = {a["field"]: a for a in shown["adjustments"]}
    quarantined = [r["name"] for d in decisions for r in d["checkpoint"]["rejected"]]
    return [
        Claim("four faults: the run completed, its final adapter verified", shown["state"] == "completed"),
        Claim("out of memory: the micro-batch was halved, the effective batch kept",
              "oom" in causes and (changes.get("micro_batch") or {}).get("to") == 4),
        Claim("killed: resumed exactly", "killed" in causes),
        Claim("truncated checkpoint: never loaded, in quarantine, the one before was used", bool(quarantined)),
        Claim("NaN: replayed exactly once, then the learning rate was halved",
              causes.count("nan_loss") == 2 and "learning_rate" in changes),
    ]  # fmt: skip


def _only_kills(home: Home, folder: Path, tiny: Any, stage: Stage) -> list[Claim]:
    stage.say("\nOne run that is killed three times, and the stock command with the same configuration, undisturbed:")
    shown, decisions = _run(home, jobs.write(jobs.only_kills(tiny), folder / "only-kills.yaml"), stage)
    stage.show(story(shown, decisions))
    adapter = folder / "stock"
    paths = home.run(shown["run_id"])
    stage.say("python -m mlx_lm lora -c attempts/1/config.yaml ...")
    code = jobs.stock_run(paths.attempt(1).config, adapter, home.cache / "jit-1", folder / "stock.log")
    ours = (shown["final"] or {}).get("sha256")
    stock = _sha256(adapter / "adapters.safetensors") if code == 0 else f"exit status {code}, see {folder}/stock.log"
    equal = ours is not None and ours == stock
    stage.say(f"ours  {ours}\nstock {stock}\nsha256 equal to an uninterrupted stock run: {'yes' if equal else 'no'}")
    return [
        Claim("three kills: the run completed", shown["state"] == "completed" and len(shown["attempts"]) == 4),
        Claim("three kills: the weights are byte-identical to an uninterrupted stock run", equal),
    ]


def _run(home: Home, job: Path, stage: Stage) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Submit a job and follow it to its end."""
    from stoker.supervisor.cli.submit import submit_file

    verdict, _ = submit_file(home, job)
    if not verdict["accepted"]:
        raise StokerError(f"the demonstration's own job was refused: {verdict['errors']}")
    run_id, said, deadline = verdict["run_id"], "", time.monotonic() + _LIMIT_S
    while time.monotonic() < deadline:
        with Reader(home) as reader:
            shown = reader.show(run_id)
            line = progress_line(shown)
            if line != said:
                stage.say(f"  {line}")
                said = line
            if shown["state"] in _ENDED:
                return shown, reader.decisions(run_id)
        time.sleep(_LOOK_S)
    raise StokerError(
        f"{run_id} has not ended within {_LIMIT_S:.0f} s", hint=f"stoker --home {home.dir} explain {run_id}"
    )


@contextmanager
def _daemon(home: Home, output: Path) -> "Iterator[None]":
    """Run a real daemon for as long as the demonstration lasts."""
    argv = [sys.executable, "-m", "stoker.supervisor", "--home", str(home.dir), "run"]
    with output.open("wb") as out:
        process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=out, stderr=out, start_new_session=True)
        try:
            _wait_ready(home, process, output)
            yield
        finally:
            process.terminate()
            process.wait()


def _wait_ready(home: Home, process: "subprocess.Popen[bytes]", output: Path) -> None:
    from stoker.supervisor.instance import running_pid

    deadline = time.monotonic() + 60
    while running_pid(home.lock) is None:
        if process.poll() is not None or time.monotonic() > deadline:
            raise StokerError("the daemon did not start", hint=output.read_text(errors="replace")[-2000:])
        time.sleep(0.05)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def verdict(claims: list[Claim]) -> str:
    """Return the claims as lines."""
    return "\n".join(f"  {'yes' if claim.true else 'NO '}  {claim.text}" for claim in claims)
