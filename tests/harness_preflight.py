"""A model, data and a home on disk, and the way to appraise a job against them."""

import json
import os
import struct
from pathlib import Path

import pytest

from stoker.supervisor.preflight import Surroundings, appraise

CONFIG = {"model_type": "qwen3", "num_hidden_layers": 4, "tie_word_embeddings": True}
ROWS = [{"text": f"example {n}"} for n in range(12)]


def write_safetensors(path: Path, tensors: dict[str, tuple[int, ...]], dtype: str = "BF16"):
    header, end = {}, 0
    for name, shape in tensors.items():
        size = 2
        for side in shape:
            size *= side
        header[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [end, end + size]}
        end += size
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + bytes(end))


def write_lines(path: Path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


@pytest.fixture
def place(tmp_path):
    """A folder with a model, data, and a home for Stoker."""
    model, data = tmp_path / "model", tmp_path / "data"
    for folder in (model, data, tmp_path / "home"):
        folder.mkdir()
    (model / "config.json").write_text(json.dumps(CONFIG), encoding="utf-8")
    (model / "tokenizer.json").write_text("{}", encoding="utf-8")
    tensors = {f"model.layers.{n}.mlp.up_proj.weight": (8, 4) for n in range(4)}
    write_safetensors(model / "model.safetensors", {"model.embed_tokens.weight": (16, 4), **tensors})
    write_lines(data / "train.jsonl", ROWS)
    write_lines(data / "valid.jsonl", ROWS)
    return tmp_path


@pytest.fixture
def judge(place):
    def run(text="", *, head="model: model\ndata: ./data\n", **changes):
        given = Surroundings.of(place / "home", place / "home" / "runs" / "r")
        values = {field: getattr(given, field) for field in Surroundings.__slots__}
        around = Surroundings(**{**values, "user_home": place, "environment": {"PATH": os.defpath}, **changes})
        return appraise((head + text).encode(), file="job.yaml", base_dir=place, around=around)

    return run


def failed(appraisal):
    return {check.name: check for check in appraisal.checks if check.verdict == "fail"}
