"""The demonstration: real training of a tiny model dies in four ways under a real daemon, and ends well.

Everything is real: mlx-lm, the daemon, the kills, the damaged checkpoint, the NaN. Only running out of memory is
simulated where mlx's CPU backend has no such error, and it is labelled so.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stoker.supervisor.demo import jobs
from stoker.supervisor.demo.serving import run_job, serving
from stoker.supervisor.demo.tiny import make_tiny
from stoker.supervisor.paths import Home
from stoker.supervisor.review.story import story

if TYPE_CHECKING:
    from rich.console import RenderableType


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
    with serving(home, folder / "daemon.out"):
        claims = _four_faults(home, folder, tiny, stage)
        claims += _only_kills(home, folder, tiny, stage)
    stage.say(f"{time.monotonic() - began:.0f} s in all")
    return claims


def _four_faults(home: Home, folder: Path, tiny: Any, stage: Stage) -> list[Claim]:
    stage.say("\nOne run that runs out of memory, is killed, loses its newest checkpoint and meets NaN twice:")
    shown, decisions = run_job(home, jobs.write(jobs.four_faults(tiny), folder / "four-faults.yaml"), stage.say)
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
    shown, decisions = run_job(home, jobs.write(jobs.only_kills(tiny), folder / "only-kills.yaml"), stage.say)
    stage.show(story(shown, decisions))
    paths = home.run(shown["run_id"])
    stage.say("python -m mlx_lm lora -c attempts/1/config.yaml ...")
    ours = (shown["final"] or {}).get("sha256")
    stock = jobs.stock_run(paths.attempt(1).config, folder / "stock", home.cache / "jit-1")
    equal = ours is not None and ours == stock
    stage.say(f"ours  {ours}\nstock {stock}\nsha256 equal to an uninterrupted stock run: {'yes' if equal else 'no'}")
    return [
        Claim("three kills: the run completed", shown["state"] == "completed" and len(shown["attempts"]) == 4),
        Claim("three kills: the weights are byte-identical to an uninterrupted stock run", equal),
    ]


def verdict(claims: list[Claim]) -> str:
    """Return the claims as lines."""
    return "\n".join(f"  {'yes' if claim.true else 'NO '}  {claim.text}" for claim in claims)
