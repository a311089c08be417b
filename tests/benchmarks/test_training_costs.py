"""What supervision costs a training, on this machine: `make bench`. Prints figures, asserts nothing about time."""

import json
import os
import statistics
import time

import numpy as np
import pytest
from harness_speed import BUDGET, stock_reports, summary, throughput, until_first_report
from harness_trainer import BASE, TrainerRun, make_tiny

from stoker.recovery.checkpoint.manifest import OPTIMIZER, WEIGHTS
from stoker.recovery.checkpoint.safetensors import read_layout
from stoker.supervisor.trainer.checkpoint import CheckpointWriter, Origin, Place, Snapshot, Watcher
from stoker.supervisor.trainer.snapshot import HostTensor

pytestmark = [pytest.mark.benchmark, pytest.mark.timeout(3600)]

FULL = {"fine_tune_type": "full", "num_layers": -1, "batch_size": 4, "grad_accumulation_steps": 1}
QUIET = {"val_batches": 0, "steps_per_eval": 1000, "save_every": 1000}


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """Ten million trainable numbers: a checkpoint of about 120 MB."""
    return make_tiny(tmp_path_factory.mktemp("model"), hidden=512, layers=4, heads=8, vocab=2048, examples=64)


def test_checkpoints_and_resume(model, tmp_path):
    config = FULL | {
        "batch_size": 1,
        "iters": 16,
        "steps_per_report": 1,
        "val_batches": 0,
        "steps_per_eval": 1000,
        "save_every": 1000,
    }
    run = TrainerRun(tmp_path / "run", model, config, every={"iterations": 3, "seconds": None})
    first = run.launch(drill=[{"fault": "kill", "at": 13}])
    first.wait()
    newest = run.checkpoints[0]
    stalls = [row["stall_s"] for row in first.of_kind("cadence")]
    written = first.of_kind("checkpoint")
    synchronous = write_again(newest, tmp_path / "again")
    second = run.finish()
    reports = stock_reports(model, tmp_path / "stock", {**BASE, **config})

    size = written[0]["bytes"]
    background = statistics.median(row["seconds"] for row in written)
    ours, fresh, stock = until_first_report(second), until_first_report(first), reports[1]
    print(
        f"\ncheckpoint: {size / 1e6:.0f} MB, {background:.2f} s in the background ({size / background / 1e9:.2f} GB/s)"
    )
    print(
        f"stall of the training thread: {1000 * statistics.median(stalls):.1f} ms (of {len(stalls)}, largest "
        f"{1000 * max(stalls):.1f}); the same write alone {synchronous:.2f} s: "
        f"{100 * statistics.median(stalls) / synchronous:.2f} %"
    )
    print(f"from exec to the first new step: resume {ours:.1f} s, fresh {fresh:.1f} s, stock {stock:.1f} s")


def write_again(checkpoint, folder):
    """Seconds that the writer needs for the same tensors when nothing else runs and training waits for it."""
    tensors = {name: host_tensors(checkpoint / name) for name in (WEIGHTS, OPTIMIZER)}
    snapshot = Snapshot(
        iteration=1,
        step=1,
        weights=tensors[WEIGHTS],
        optimizer=tensors[OPTIMIZER],
        state=json.loads((checkpoint / "state.json").read_bytes()),
        train_loss=None,
    )
    taken = []
    for attempt in range(1, 4):
        origin = Origin("bench", attempt, 0, None, "full", "", {})
        watcher = Watcher(lambda _: None, lambda **row: taken.append(row["seconds"]), lambda *_: None, lambda *_: None)
        writer = CheckpointWriter(Place(folder / str(attempt), folder / "staging", 1, 0), origin, watcher)
        writer.begin(snapshot)
        writer.settle(lambda: None)
    return statistics.median(taken)


def host_tensors(path):
    data = np.fromfile(path, np.uint8)
    with path.open("rb") as file:
        tensors = read_layout(file, path.stat().st_size).tensors
    return tuple(
        HostTensor(row.name, row.dtype, tuple(row.shape), memoryview(data[row.begin : row.end])) for row in tensors
    )


def test_throughput(tmp_path):
    """The CPU backend is slow: a tiny model, so that many iterations fit into minutes."""
    pairs, iters = int(os.environ.get("STOKER_BENCH_PAIRS", "7")), 260
    tiny = make_tiny(tmp_path / "model", hidden=64, layers=2, heads=4, examples=40)
    ratios, began = [], time.monotonic()
    for row in throughput(tiny, tmp_path / "speed", FULL, pairs=pairs, iters=iters):
        ratios.append(row["ratio"])
        print(f"\n{row}", end="")
    print(f"\nstock time / ours, every: auto, budget {BUDGET}: {summary(ratios)} ({time.monotonic() - began:.0f} s)")
