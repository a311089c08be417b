"""Exact resume and throughput at half a billion parameters, trainer driven directly: `python exact_gpu.py OUT.json`.

On a machine with an NVIDIA GPU and mlx[cuda13] (or any mlx backend, given time): makes a random qwen3 in bfloat16, trains
it in full with the stock command and with ours under three SIGKILLs, and compares the sha256 of the final weights. Then
alternates undisturbed runs of both and compares the wall time between the same two reports, checkpoints included.
"""

import argparse
import json
import re
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import yaml
from harness_trainer import BASE, TrainerRun, adapters_of, end_group, environment, make_tiny, stock

ANSI = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")
REPORT = re.compile(r"\s+(\d+)\s+\d")  # a train report of mlx-lm 0.32: `    40    5.123 ▼    1,024`

CONFIG = {
    "fine_tune_type": "full",
    "num_layers": -1,
    "batch_size": 4,
    "grad_accumulation_steps": 2,
    "steps_per_eval": 1000,
    "save_every": 1000,
    "learning_rate": 1e-5,
}


def exact(tiny, folder, kills):
    """Stock once, ours killed at the given iterations: sha256 of both, and what the resumes cost."""
    config = {**CONFIG, "iters": 60, "steps_per_report": 5, "steps_per_eval": 20}
    expected = adapters_of(stock(tiny, config, folder / "stock"))["adapters.safetensors"]
    again = adapters_of(stock(tiny, config, folder / "stock2"))["adapters.safetensors"]
    run = TrainerRun(folder / "ours", tiny, config, every={"iterations": 8, "seconds": None})
    for at in kills:
        attempt = run.launch()
        assert attempt.wait_until(lambda beat, at=at: beat["iteration"] >= at, 300), attempt.log[-3000:]
        end_group(attempt)
    last = run.finish()
    starts = [row["from_iteration"] for row in last.of_kind("start")]
    ours = adapters_of(run.adapter)["adapters.safetensors"]
    checkpoints = last.of_kind("checkpoint")
    return {
        "kills": kills,
        "stock": expected,
        "stock_again": again,
        "ours": ours,
        "equal": ours == expected,
        "last_resume_from": starts,
        "checkpoint_bytes": checkpoints[-1]["bytes"],
        "checkpoint_seconds": [round(row["seconds"], 2) for row in checkpoints],
        "resume_s": resume_cost(last),
    }


def resume_cost(attempt):
    """Seconds from exec to the first report after a resume."""
    first = attempt.of_kind("start")[0]["t"]
    return round(first - (attempt.folder / "launch.json").stat().st_mtime, 2)


def window(process, first, last):
    """Seconds between the reports of two iterations, by the clock of whoever reads the output."""
    times = {}
    for raw in process.stdout:
        report = REPORT.match(ANSI.sub("", raw.decode(errors="replace")))
        if report and "val" not in report.string:
            times[int(report[1])] = time.monotonic()
    assert process.wait() == 0
    return times[last] - times[first]


def throughput(tiny, folder, pairs, iters, every):
    """Median ratio of stock time to ours over alternating pairs, first 40 iterations left out."""
    config = {**BASE, **CONFIG, "iters": iters, "steps_per_report": 20, "val_batches": 0, "steps_per_eval": 10 * iters}
    ratios, rows = [], []
    for pair in range(pairs):
        seconds = {}
        for who in ("stock", "ours") if pair % 2 == 0 else ("ours", "stock"):
            place = folder / f"{who}-{pair}"
            seconds[who] = one(tiny, place, config, who, every, iters)
        ratios.append(seconds["stock"] / seconds["ours"])
        rows.append({key: round(value, 3) for key, value in seconds.items()})
        print(f"pair {pair}: {rows[-1]} ratio {ratios[-1]:.4f}", flush=True)
    return {
        "every": every,
        "iterations": iters - 40,
        "pairs": rows,
        "ratio_median": round(statistics.median(ratios), 4),
        "ratio_min": round(min(ratios), 4),
        "ratio_max": round(max(ratios), 4),
    }


def one(tiny, place, config, who, every, iters):
    """The window of one undisturbed run."""
    if who == "ours":
        rows = TrainerRun(place, tiny, config, every=every).finish().of_kind("train")
        times = {row["iteration"]: row["t"] for row in rows}
        return times[iters] - times[40]
    place.mkdir(parents=True)
    paths = {"model": str(tiny.model), "data": str(tiny.data), "adapter_path": str(place / "adapter")}
    (place / "config.yaml").write_text(yaml.safe_dump({**config, **paths}))
    command = [sys.executable, "-m", "mlx_lm", "lora", "-c", str(place / "config.yaml")]
    process = subprocess.Popen(command, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    return window(process, 40, iters)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("out", type=Path)
    parser.add_argument("--hidden", type=int, default=2048)
    parser.add_argument("--layers", type=int, default=14)
    parser.add_argument("--heads", type=int, default=16)
    parser.add_argument("--pairs", type=int, default=7)
    parser.add_argument("--iters", type=int, default=240)
    parser.add_argument("--only", choices=("exact", "throughput"))
    wanted = parser.parse_args()
    result = {"command": " ".join(sys.argv)}
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        tiny = make_tiny(
            place / "tiny",
            hidden=wanted.hidden,
            layers=wanted.layers,
            heads=wanted.heads,
            dtype="bfloat16",
            examples=400,
        )
        result["model_bytes"] = (tiny.model / "model.safetensors").stat().st_size
        if wanted.only != "throughput":
            result["exact"] = exact(tiny, place / "exact", [13, 29, 46])
            print(json.dumps(result["exact"], indent=1), flush=True)
            wanted.out.write_text(json.dumps(result, indent=1))
        if wanted.only != "exact":
            every = {"iterations": 1000, "seconds": 900}
            result["throughput"] = throughput(tiny, place / "speed", wanted.pairs, wanted.iters, every)
            print(json.dumps(result["throughput"], indent=1), flush=True)
            wanted.out.write_text(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
