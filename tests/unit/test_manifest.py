import pytest

from stoker.recovery.checkpoint import manifest as manifests
from stoker.recovery.checkpoint.manifest import FileFacts, Manifest, ManifestError

EXAMPLE = Manifest(
    run_id="sft_20261122_1200",
    attempt=3,
    iteration=120,
    step=60,
    parent="00000100-a3",
    created_at="2026-11-22T12:00:00.000+00:00",
    fine_tune_type="lora",
    files={"weights.safetensors": FileFacts(3, "ab" * 32)},
    config_sha256="cd" * 32,
    versions={"mlx": "0.32.4"},
    train_loss=1.25,
    finite=True,
    tensors={"count": 2, "params": 10},
)


def test_a_manifest_comes_back_as_it_was_written():
    assert manifests.decode(manifests.encode(EXAMPLE), where="here") == EXAMPLE
    assert EXAMPLE.name == "00000120-a3"


@pytest.mark.parametrize(
    ("name", "parsed"),
    [
        ("00000120-a3", (120, 3)),
        ("123456789-a12", (123456789, 12)),
        ("120-a3", None),
        ("00000120-a3.tmp", None),
        ("staging", None),
    ],
)
def test_only_names_of_checkpoints_are_parsed(name, parsed):
    assert manifests.parse_name(name) == parsed


@pytest.mark.parametrize("data", [b"", b"{", b"[]", b'{"v": 2}', b'{"v": 1}', manifests.encode(EXAMPLE)[:-20]])
def test_anything_else_is_a_manifest_error(data):
    with pytest.raises(ManifestError, match="here"):
        manifests.decode(data, where="here")


def test_sizes_are_compared_without_reading(tmp_path):
    assert manifests.size_problems(tmp_path, EXAMPLE) == ["weights.safetensors: No such file or directory"]
    (tmp_path / "weights.safetensors").write_bytes(b"abcd")
    assert manifests.size_problems(tmp_path, EXAMPLE) == ["weights.safetensors: 4 bytes, the manifest says 3"]
    with pytest.raises(ManifestError, match="a folder without it is not a checkpoint"):
        manifests.read(tmp_path)
