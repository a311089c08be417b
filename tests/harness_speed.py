"""Throughput of the stock command and of ours in alternating, undisturbed runs; and what it takes to start."""

import re
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml
from harness_trainer import BASE, Attempt, TrainerRun, environment

from stoker.supervisor.demo.tiny import Tiny

ANSI = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")
REPORT = re.compile(r"\s+(\d+)\s+\d")  # a train report of mlx-lm 0.32: `    40    5.123 ▼    1,024`
WARM_UP = 40  # iterations left out: they trace and compile
BUDGET = {"write_per_s": 2e12 / 86400, "mtbf_s": 86400.0}  # the daemon's defaults


def auto(iters: int) -> dict[str, Any]:
    """What the daemon passes for `every: auto`."""
    return {"iterations": max(1, min(1000, iters // 20)), "seconds": 900.0, "auto": True}


def throughput(
    tiny: Tiny, folder: Path, config: Mapping[str, Any], *, pairs: int, iters: int
) -> Iterator[dict[str, Any]]:
    """One row a pair: seconds of both between the reports of iteration 40 and the last, ratio, checkpoints of ours."""
    whole = {
        **BASE,
        **config,
        "iters": iters,
        "steps_per_report": 20,
        "val_batches": 0,
        "steps_per_eval": 10 * iters,
        "save_every": 10 * iters,
    }
    for pair in range(pairs):
        row: dict[str, Any] = {}
        for who in ("stock", "ours") if pair % 2 == 0 else ("ours", "stock"):
            place = folder / f"{who}-{pair}"
            row |= _ours(tiny, place, whole) if who == "ours" else _stock(tiny, place, whole)
            shutil.rmtree(place)
        yield row | {"ratio": round(row["stock"] / row["ours"], 4)}


def summary(ratios: list[float]) -> str:
    """The median with its spread."""
    return f"{len(ratios)} pairs, median {statistics.median(ratios):.4f}, {min(ratios):.4f} to {max(ratios):.4f}"


def _ours(tiny: Tiny, place: Path, config: Mapping[str, Any]) -> dict[str, Any]:
    iters = config["iters"]
    attempt = TrainerRun(place, tiny, config, every=auto(iters)).finish(**BUDGET)
    times = {row["iteration"]: row["t"] for row in attempt.of_kind("train")}
    return {
        "ours": round(times[iters] - times[WARM_UP], 3),
        "checkpoints": [[row["iteration"], round(row["seconds"], 2)] for row in attempt.of_kind("checkpoint")],
        "stall_s": [round(row["stall_s"], 4) for row in attempt.of_kind("cadence")],
    }


def _stock(tiny: Tiny, place: Path, config: Mapping[str, Any]) -> dict[str, Any]:
    times = stock_reports(tiny, place, config)
    return {"stock": round(times[config["iters"]] - times[WARM_UP], 3)}


def stock_reports(tiny: Tiny, place: Path, config: Mapping[str, Any]) -> dict[int, float]:
    """When the stock command printed the report of each iteration, in seconds since it was started."""
    place.mkdir(parents=True)
    paths = {"model": str(tiny.model), "data": str(tiny.data), "adapter_path": str(place / "adapter")}
    (place / "config.yaml").write_text(yaml.safe_dump({**config, **paths}))
    command = [sys.executable, "-m", "mlx_lm", "lora", "-c", str(place / "config.yaml")]
    began, times = time.monotonic(), {}
    process = subprocess.Popen(command, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    assert process.stdout is not None
    for raw in process.stdout:
        report = REPORT.match(ANSI.sub("", raw.decode(errors="replace")))
        if report and "val" not in report.string:
            times[int(report[1])] = time.monotonic() - began
    assert process.wait() == 0
    return times


def until_first_report(attempt: Attempt) -> float:
    """Seconds from the start of our trainer to its first report."""
    return float(attempt.of_kind("train")[0]["t"]) - (attempt.folder / "launch.json").stat().st_mtime
