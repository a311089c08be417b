"""`stoker verify`: what it prints, and its exit codes."""

import hashlib
import json
import struct

import pytest
import typer
from typer.testing import CliRunner

from stoker.supervisor.cli.verify import verify as verb
from stoker.supervisor.errors import UsageError

STATE = {
    "v": 1, "iteration": 40, "step": 20, "report": {}, "epoch": {}, "numpy": {}, "mlx_key": [0, 1], "start_digest": "",
}  # fmt: skip


@pytest.fixture(name="folder")
def _folder(tmp_path):
    """The smallest checkpoint that is good."""
    folder = tmp_path / "00000040-a1"
    folder.mkdir()
    header = json.dumps({"w": {"dtype": "F32", "shape": [2, 1], "data_offsets": [0, 8]}}).encode()
    tensors = struct.pack("<Q", len(header)) + header + struct.pack("<2f", 1.0, 2.0)
    content = {
        "weights.safetensors": tensors,
        "optimizer.safetensors": tensors,
        "state.json": json.dumps(STATE).encode(),
    }
    for name, data in content.items():
        (folder / name).write_bytes(data)
    files = {name: {"size": len(data), "sha256": hashlib.sha256(data).hexdigest()} for name, data in content.items()}
    manifest = {
        "v": 1, "run_id": "r", "attempt": 1, "iteration": 40, "step": 20, "parent": None, "created_at": "now",
        "fine_tune_type": "full", "files": files, "config_sha256": "", "versions": {}, "train_loss": None,
        "finite": True, "tensors": {"count": 1, "params": 2},
    }  # fmt: skip
    (folder / "manifest.json").write_text(json.dumps(manifest))
    return folder


@pytest.fixture(name="invoke")
def _invoke():
    app = typer.Typer()
    app.command()(verb)
    return lambda *words: CliRunner().invoke(app, [str(word) for word in words])


def test_the_verb_prints_one_document(folder, invoke):
    result = invoke(folder, folder / "weights.safetensors", "--json")
    assert result.exit_code == 0
    document = json.loads(result.stdout)
    assert [(each["path"], each["ok"], each["problems"]) for each in document] == [
        (str(folder), True, []), (str(folder / "weights.safetensors"), True, []),
    ]  # fmt: skip


def test_the_verb_exits_1_for_a_bad_one(folder, invoke):
    (folder / "state.json").write_text("{}")
    result = invoke(folder)
    assert result.exit_code == 1
    assert "BAD" in result.stdout


def test_a_folder_of_checkpoints_stands_for_each_inside(folder, invoke):
    (folder.parent / "00000060-a1").mkdir()
    result = invoke(folder.parent, "--json")
    assert result.exit_code == 1
    assert [(each["iteration"], each["ok"]) for each in json.loads(result.stdout)] == [(40, True), (60, False)]


def test_the_verb_refuses_what_does_not_exist(tmp_path, invoke):
    error = invoke(tmp_path / "nothing").exception
    assert isinstance(error, UsageError)
    assert error.exit_code == 2
