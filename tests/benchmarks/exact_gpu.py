"""Exact resume and throughput at half a billion parameters, trainer driven directly: `python exact_gpu.py OUT.json`.

On a machine with an NVIDIA GPU and mlx[cuda13] (or any mlx backend, given time): makes a random qwen3 in bfloat16, trains
it in full with the stock command and with ours under three SIGKILLs, and compares the sha256 of the final weights. Then
alternates undisturbed runs of both and compares the wall time between the same two reports, with `every: auto`.
"""

import argparse
import json
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from harness_speed import summary, throughput
from harness_trainer import TrainerRun, adapters_of, end_group, make_tiny, stock

SPEED_BATCH = 32  # large enough that the GPU is what takes the time: smaller steps measure Python
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


def merge(paths):
    """The figures of several calls as one: the median over all their pairs."""
    print(summary([row["ratio"] for path in paths for row in json.loads(path.read_text())["pairs"]]))


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("out", type=Path)
    parser.add_argument("--hidden", type=int, default=2048)
    parser.add_argument("--layers", type=int, default=14)
    parser.add_argument("--heads", type=int, default=16)
    parser.add_argument("--pairs", type=int, default=7)
    parser.add_argument("--iters", type=int, default=240)
    parser.add_argument("--only", choices=("exact", "throughput"))
    parser.add_argument("--merge", type=Path, nargs="+", default=[], help="only print the median over these results")
    wanted = parser.parse_args()
    if wanted.merge:
        merge([wanted.out, *wanted.merge])
        return
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
            result["iterations"], result["pairs"] = wanted.iters, []
            config = {**CONFIG, "batch_size": SPEED_BATCH}
            for row in throughput(tiny, place / "speed", config, pairs=wanted.pairs, iters=wanted.iters):
                result["pairs"].append(row)
                print(json.dumps(row), flush=True)
                wanted.out.write_text(json.dumps(result, indent=1))
            merge([wanted.out])


if __name__ == "__main__":
    main()
