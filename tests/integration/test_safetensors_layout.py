"""Headers of safetensors files that contradict themselves or the file."""

import json
import struct

import pytest

from stoker.recovery.checkpoint.verify import verify


def safetensors(header, data):
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


def entry(**changes):
    return {"dtype": "F32", "shape": [2, 2], "data_offsets": [0, 16]} | changes


@pytest.mark.parametrize(
    ("header", "says"),
    [
        ({"a": entry(dtype="F31")}, "unknown dtype 'F31'"),
        ({"a": entry(dtype=None)}, "unknown dtype"),
        ({"a": entry(shape=[2, -2])}, "not a list of sizes"),
        ({"a": entry(shape="22")}, "not a list of sizes"),
        ({"a": entry(shape=[2, True])}, "not a list of sizes"),
        ({"a": entry(shape=[2, 3])}, "needs 24 bytes, its offsets give 16"),
        ({"a": entry(data_offsets=[0])}, "not a pair"),
        ({"a": entry(data_offsets=[0, 16.0])}, "not a pair"),
        ({"a": 3}, "not an object"),
        ({"a": entry(), "b": entry()}, "overlaps"),
        ({"a": entry(data_offsets=[4, 20])}, "gap"),
        ({}, "no tensors"),
        ({"__metadata__": {}}, "no tensors"),
        ([], "not a JSON object"),
    ],
)
def test_a_wrong_header(tmp_path, header, says):
    path = tmp_path / "w.safetensors"
    path.write_bytes(safetensors(header, bytes(16)))
    assert any(says in problem for problem in verify(path).problems), verify(path).problems


def test_an_unhashable_dtype_and_deep_nesting(tmp_path):
    path = tmp_path / "w.safetensors"
    path.write_bytes(safetensors({"a": entry(dtype=["F32"])}, bytes(16)))
    assert "unknown dtype" in verify(path).problems[0]
    text = b"[" * 100_000
    path.write_bytes(struct.pack("<Q", len(text)) + text)
    assert "not JSON" in verify(path).problems[0]
