"""The checkpoint writer in this process: what stays, what goes, and what happens when there is no room."""

import numpy as np
import pytest

from stoker.recovery.checkpoint import manifest as manifests
from stoker.supervisor.trainer import checkpoint as module
from stoker.supervisor.trainer.checkpoint import CheckpointWriter, Origin, Place, Snapshot, Watcher
from stoker.supervisor.trainer.outcomes import Fault
from stoker.supervisor.trainer.snapshot import HostTensor

pytestmark = pytest.mark.training  # needs mlx; trains nothing

SIZE = 2 * 4 * 1000


def tensor(name, value):
    return HostTensor(name, "F32", (1000,), memoryview(np.full(1000, value, "<f4").tobytes()))


def snapshot(iteration):
    pair = (tensor("w", iteration),), (tensor("w.m", iteration),)
    return Snapshot(iteration, iteration, *pair, state={"v": 1, "iteration": iteration}, train_loss=1.0)


class Bench:
    """A writer with what it told."""

    def __init__(self, folder, *, attempt=1, start=0, parent=None, keep=2, min_free=0):
        self.folder = folder / "checkpoints"
        self.told, self.bad, self.sizes = [], [], []
        watcher = Watcher(
            check=lambda _: None,
            committed=lambda **row: self.told.append(row["name"]),
            bad=lambda name, problems: self.bad.append((name, problems)),
            finished=lambda size, _: self.sizes.append(size),
        )
        origin = Origin("run", attempt, start, parent, "full", "", {})
        self.writer = CheckpointWriter(Place(self.folder, folder / "staging", keep, min_free), origin, watcher)

    def write(self, *iterations):
        for iteration in iterations:
            self.writer.begin(snapshot(iteration))
            self.writer.settle(lambda: None)

    @property
    def names(self):
        return sorted(path.name for path in self.folder.iterdir())


def test_the_newest_stay_and_the_newest_from_before_the_suspected_onset(tmp_path):
    bench = Bench(tmp_path)
    bench.write(10, 20)
    bench.writer.onset = 15
    bench.write(30, 40, 50)
    assert bench.names == ["00000010-a1", "00000040-a1", "00000050-a1"]
    bench.writer.onset = 48
    bench.write(60)
    assert bench.names == ["00000040-a1", "00000050-a1", "00000060-a1"]
    assert bench.sizes == [SIZE] * 6


def test_nothing_is_pruned_for_a_checkpoint_that_reads_back_wrong(tmp_path, monkeypatch):
    """The older ones may be all that is left."""
    bench = Bench(tmp_path)
    bench.write(10, 20)
    monkeypatch.setattr(module, "sync_folder", spoil(bench, "00000030-a1"))
    bench.write(30)
    assert bench.names == ["00000010-a1", "00000020-a1", "00000030-a1"]
    assert [name for name, _ in bench.bad] == ["00000030-a1"]
    assert "weights.safetensors" in bench.bad[0][1][0]


def spoil(bench, name):
    """Flips a byte of a checkpoint as soon as it is committed, as a failing disk would."""

    def sync(folder):
        weights = bench.folder / name / manifests.WEIGHTS
        if folder == bench.folder and weights.exists():
            data = bytearray(weights.read_bytes())
            data[-1] ^= 1
            weights.write_bytes(data)

    return sync


def test_older_checkpoints_make_room_and_the_newest_never_goes(tmp_path, monkeypatch):
    bench = Bench(tmp_path, keep=3, min_free=5000)
    bench.write(10, 20, 30)
    wanted = SIZE + (1 << 20) + 5000
    room = [wanted - 10_000, wanted - 10_000, wanted - 1]
    monkeypatch.setattr(module, "free_bytes", lambda _: room.pop(0))
    bench.write(40)
    assert bench.names == ["00000030-a1", "00000040-a1"]
    assert not room


def test_without_room_nothing_is_written_and_nothing_goes_in_vain(tmp_path, monkeypatch):
    bench = Bench(tmp_path, keep=3, min_free=5000)
    bench.write(10, 20)
    monkeypatch.setattr(module, "free_bytes", lambda _: 20_000)
    with pytest.raises(Fault) as raised:
        bench.write(30)
    assert (raised.value.cause, raised.value.needs) == ("disk_full", SIZE + (1 << 20) + 5000)
    assert bench.names == ["00000010-a1", "00000020-a1"]
    assert not list((tmp_path / "staging").iterdir())


@pytest.mark.parametrize(("parent", "stays"), [("00000020-a1", 1), ("00000010-a1", 2)])
def test_room_is_made_only_when_the_newest_is_known_to_be_good(parent, stays, tmp_path, monkeypatch):
    """What this attempt resumed from was verified; a newer one that it passed over was not."""
    Bench(tmp_path).write(10, 20)
    bench = Bench(tmp_path, attempt=2, start=20, parent=parent)
    wanted = SIZE + (1 << 20)
    room = [wanted - 1000, wanted - 1000, wanted]
    monkeypatch.setattr(module, "free_bytes", lambda _: room.pop(0))
    if stays == 1:
        bench.write(30)
    else:
        with pytest.raises(Fault):
            bench.write(30)
    assert len([name for name in bench.names if name.endswith("-a1")]) == stays
