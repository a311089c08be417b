"""The verifier against files that are whole, and against every way in which they break."""

import hashlib
import json

import numpy as np
import pytest
from harness_safetensors import bf16, write
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from stoker.recovery.checkpoint import scan as scanning
from stoker.recovery.checkpoint.verify import verify


def weights():
    rng = np.random.default_rng(0)
    return {
        "model.layers.0.q_proj.weight": rng.standard_normal((64, 32), np.float32),
        "model.layers.0.k_proj.weight": bf16(rng.standard_normal((32, 33))),
        "model.layers.0.v_proj.weight": rng.standard_normal((7, 3)).astype(np.float16),
        "model.norm.weight": np.ones(64, np.float32),
        "model.bias": np.zeros(5, np.float32),
    }


def moments():
    moving = np.random.default_rng(1).standard_normal((64, 32), np.float32)
    return {"step": np.asarray(40, np.uint32), "m": np.zeros((64, 32), np.float32), "v": moving}


STATE = {
    "v": 1,
    "iteration": 40,
    "step": 20,
    "report": {},
    "epoch": {},
    "numpy": {},
    "mlx_key": [0, 1],
    "start_digest": "",
}


def seal(folder, **changes):
    """Write the manifest of what lies in the folder."""
    files = {
        path.name: {"size": path.stat().st_size, "sha256": hashlib.sha256(path.read_bytes()).hexdigest()}
        for path in sorted(folder.iterdir()) if path.name != "manifest.json"
    }  # fmt: skip
    manifest = {
        "v": 1, "run_id": "r", "attempt": 1, "iteration": 40, "step": 20, "parent": None,
        "created_at": "2026-11-22T00:00:00Z", "fine_tune_type": "full", "files": files, "config_sha256": "0" * 64,
        "versions": {"mlx": "0"}, "train_loss": 1.0, "finite": True, "tensors": {"count": 5, "params": 3194},
    }  # fmt: skip
    (folder / "manifest.json").write_text(json.dumps(manifest | changes))


@pytest.fixture(name="folder")
def _folder(tmp_path):
    folder = tmp_path / "00000040-a1"
    folder.mkdir()
    write(folder / "weights.safetensors", weights())
    write(folder / "optimizer.safetensors", moments())
    (folder / "state.json").write_text(json.dumps(STATE))
    seal(folder)
    return folder


def flip(path, position):
    data = bytearray(path.read_bytes())
    data[position] ^= 1
    path.write_bytes(data)


def zero_half(path):
    size = path.stat().st_size
    path.write_bytes(path.read_bytes()[: size // 2] + bytes(size - size // 2))


# ---- a checkpoint ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("full", [True, False])
def test_a_whole_checkpoint_is_good(folder, full):
    verdict = verify(folder, full=full)
    assert verdict.problems == ()
    assert (verdict.ok, verdict.iteration, verdict.kind) == (True, 40, "checkpoint")
    content = (folder / "weights.safetensors").read_bytes()
    assert verdict.sha256 == (hashlib.sha256(content).hexdigest() if full else None)


@pytest.mark.parametrize("name", ["weights.safetensors", "optimizer.safetensors"])
@pytest.mark.parametrize(
    ("damage", "says", "quick"),
    [
        (lambda p: p.write_bytes(p.read_bytes()[:-1]), "truncated", True),
        (lambda p: p.write_bytes(p.read_bytes()[:6]), "too short", True),
        (lambda p: p.write_bytes(b""), "too short", True),
        (lambda p: p.write_bytes(p.read_bytes() + b"x"), "1 bytes after its last tensor", True),
        (lambda p: p.write_bytes(b"\xff" * 8 + p.read_bytes()[8:]), "not safetensors", True),
        (lambda p: p.write_bytes(p.read_bytes()[:8] + b"\xff" + p.read_bytes()[9:]), "not JSON", True),
        (lambda p: p.unlink(), "is missing", True),
        (lambda p: flip(p, p.stat().st_size - 1), "changed since", False),
        (zero_half, "changed since", False),
    ],
    ids=["truncated", "stub", "empty", "longer", "length", "header", "missing", "bit", "zeroed"],
)
def test_a_damaged_file(folder, name, damage, says, quick):
    damage(folder / name)
    verdict = verify(folder)
    assert not verdict.ok
    assert any(problem.startswith(name) and says in problem for problem in verdict.problems), verdict.problems
    assert verify(folder, full=False).ok is not quick


def test_every_single_bit_matters(folder):
    """A bit of the header, of the first tensor, of the last, of the state."""
    for name, position in [
        ("weights.safetensors", 0), ("weights.safetensors", 40), ("weights.safetensors", 2000),
        ("weights.safetensors", -1), ("optimizer.safetensors", -1), ("state.json", 10),
    ]:  # fmt: skip
        flip(folder / name, position)
        assert not verify(folder).ok, (name, position)
        flip(folder / name, position)
    assert verify(folder).ok


def test_without_its_manifest_it_is_no_checkpoint(folder):
    (folder / "manifest.json").unlink()
    verdict = verify(folder)
    assert (verdict.kind, verdict.iteration) == ("checkpoint", 40)
    assert "not a checkpoint" in verdict.problems[0]


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"v": 2}', '{"v": 1}', "\x00", "[" * 100_000])
def test_a_manifest_that_cannot_be_read(folder, text):
    (folder / "manifest.json").write_text(text)
    verdict = verify(folder)
    assert not verdict.ok
    assert verdict.problems[0].startswith("manifest.json")


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"iteration": 60}, "the folder is named 00000040-a1"),
        ({"attempt": 2}, "the folder is named 00000040-a1"),
        ({"step": 21}, "state.json: says step 20, the manifest says 21"),
        ({"finite": False}, "not finite"),
        ({"tensors": {"count": 4, "params": 3194}}, "count 5"),
        ({"files": {}}, "does not list weights.safetensors"),
        ({"files": {"../00000040-a1/weights.safetensors": {"size": 1, "sha256": "0"}}}, "not a file of the folder"),
    ],
)
def test_a_manifest_that_contradicts_the_folder(folder, changes, says):
    seal(folder, **changes)
    assert any(says in problem for problem in verify(folder, full=False).problems)


def test_a_folder_under_another_name(folder):
    assert not verify(folder.rename(folder.with_name("00000060-a1"))).ok


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("{", "not JSON"),
        ("[]", "not a JSON object"),
        (json.dumps(STATE | {"iteration": 39}), "says iteration 39, the manifest says 40"),
        (json.dumps(STATE | {"step": "20"}), "step '20' is not a number"),
        (json.dumps({"iteration": 40, "step": 20}), "has no v, report"),
    ],
)
def test_a_state_that_does_not_fit(folder, text, says):
    (folder / "state.json").write_text(text)
    seal(folder)
    assert any(problem.startswith("state.json") and says in problem for problem in verify(folder).problems)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("name", list(weights())[:3])
def test_a_value_that_is_not_finite(folder, name, value):
    """Hash and manifest agree: only the values tell."""
    tensors = weights()
    broken = bf16([value])[0] if tensors[name].dtype == np.uint16 else value
    tensors[name].flat[-1] = broken
    write(folder / "weights.safetensors", tensors)
    seal(folder)
    assert verify(folder).problems == (
        f"weights.safetensors: {name} holds 1 of {tensors[name].size} values that are nan or inf",
    )
    assert verify(folder, full=False).ok


def test_many_broken_tensors_are_summed_up(tmp_path):
    path = write(tmp_path / "adapters.safetensors", {f"t{n}": np.full((2, 2), np.nan, np.float32) for n in range(9)})
    problems = verify(path).problems
    assert len(problems) == 6
    assert "4 more tensors" in problems[5]


# ---- values ----------------------------------------------------------------------------------------------------------


def test_everything_constant_is_what_a_failed_gpu_leaves(tmp_path):
    path = write(
        tmp_path / "adapters.safetensors", {"a": np.zeros((4, 4), np.float32), "b": np.ones((4, 4), np.float32)}
    )
    assert "every tensor is constant" in verify(path).problems[0]


def test_a_zero_matrix_among_others_is_a_problem(tmp_path):
    path = write(tmp_path / "w.safetensors", weights() | {"mlp.gate_proj.weight": np.zeros((4, 4), np.float32)})
    assert verify(path).problems == ("w.safetensors: mlp.gate_proj.weight: all values are zero",)


def test_negative_zero_is_zero(tmp_path):
    path = write(tmp_path / "w.safetensors", weights() | {"up.weight": np.array([[0.0, -0.0]], np.float32)})
    assert not verify(path).ok


def test_the_smallest_numbers_are_not_zero(tmp_path):
    """Their bytes are those of -0.0, but not in that order."""
    tiny = np.full((2, 2), 0x80, np.uint32).view(np.float32)
    assert verify(write(tmp_path / "w.safetensors", weights() | {"up.weight": tiny})).ok


def test_values_that_are_known_to_be_finite_are_not_looked_at(tmp_path):
    path = write(tmp_path / "w.safetensors", {"a": np.array([[1.0, np.nan]], np.float32)})
    assert not verify(path).ok
    assert verify(path, finite=False).ok
    assert verify(path, finite=False).sha256 == verify(path).sha256


def test_lora_starts_at_zero_and_that_is_fine(tmp_path):
    lora = {
        "q.lora_a": np.random.default_rng(0).standard_normal((8, 4)).astype(np.float32),
        "q.lora_b": np.zeros((4, 8), np.float32),
    }
    verdict = verify(write(tmp_path / "adapters.safetensors", lora))
    assert verdict.ok
    assert verdict.notes == ("adapters.safetensors: 1 matrices are all zero, as they are at the start (q.lora_b)",)


def test_moments_may_be_zero(tmp_path):
    assert verify(write(tmp_path / "optimizer.safetensors", moments())).ok


@pytest.mark.parametrize("dtype", [np.float64, np.complex64])
def test_other_types_are_looked_at_too(tmp_path, dtype):
    array = np.ones((3, 3), dtype)
    array[1, 1] = 2
    assert verify(write(tmp_path / "good.safetensors", {"a": array})).ok
    array[2, 2] = np.nan
    assert not verify(write(tmp_path / "bad.safetensors", {"a": array})).ok


def test_integers_have_no_nan(tmp_path):
    packed = np.full((4, 4), 0xFFFF_FFFF, np.uint32)
    packed[0, 0] = 1
    assert verify(write(tmp_path / "quantized.safetensors", {"w": packed})).ok


def test_values_across_the_edges_of_blocks(tmp_path, monkeypatch):
    """With tiny blocks every value is cut somewhere; the count must still be exact."""
    tensors = weights()
    tensors["model.layers.0.q_proj.weight"].flat[::7] = np.nan
    tensors["model.layers.0.k_proj.weight"].flat[5] = bf16([np.inf])[0]
    path = write(tmp_path / "w.safetensors", tensors)
    expected = verify(path)
    for read in (17, 64, 1001):
        monkeypatch.setattr(scanning, "READ_BYTES", read)
        monkeypatch.setattr(scanning, "LOOK_BYTES", 32)
        assert verify(path) == expected
    assert "holds 293 of 2048" in expected.problems[0]


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_nothing_on_the_disk_makes_the_verifier_raise(folder, data):
    """Any file of a checkpoint with some of its bytes replaced, cut or doubled: a verdict, and never a good one."""
    path = folder / data.draw(st.sampled_from(sorted(each.name for each in folder.iterdir())))
    whole = path.read_bytes()
    at = data.draw(st.integers(0, len(whole) - 1))
    new = data.draw(st.binary(max_size=12) | st.sampled_from([b"1e999", b"Infinity", b"[[[[", b"null", b"9" * 5000]))
    length = data.draw(st.integers(0, 40))
    damaged = whole[:at] + new + whole[at + length :]
    path.write_bytes(damaged)
    verdict, quick = verify(folder), verify(folder, full=False)
    path.write_bytes(whole)
    assert verdict.ok is not bool(verdict.problems)
    if path.name != "manifest.json" and damaged != whole:
        assert not verdict.ok
    assert verdict.ok <= quick.ok


# ---- adapters --------------------------------------------------------------------------------------------------------


def lora(rank=4):
    rng = np.random.default_rng(0)
    return {
        "layers.0.q.lora_a": rng.standard_normal((16, rank)).astype(np.float32),
        "layers.0.q.lora_b": rng.standard_normal((rank, 16)).astype(np.float32),
    }


def dora():
    return lora() | {"layers.0.q.m": np.arange(1, 17, dtype=np.float32)}


@pytest.mark.parametrize(
    ("config", "tensors", "says"),
    [
        ({"fine_tune_type": "lora", "lora_parameters": {"rank": 4}}, lora(), None),
        ({"fine_tune_type": "dora", "lora_parameters": {"rank": 4}}, dora(), None),
        ({"lora_parameters": {"rank": 4}, "use_dora": True}, dora(), None),
        ({"fine_tune_type": "dora"}, lora(), "lacks layers.0.q.m"),
        ({"fine_tune_type": "lora"}, dora(), "layers.0.q.m belong to DoRA"),
        ({"lora_parameters": {"rank": 8}}, lora(), "has shape [16, 4], adapter_config.json says rank 8"),
        ({"fine_tune_type": "lora"}, weights(), "holds no LoRA factors"),
        ({"fine_tune_type": "full"}, weights(), None),
        ({"fine_tune_type": "full"}, lora(), "holds LoRA factors"),
        (None, lora(), None),
    ],
)
def test_an_adapter_folder(tmp_path, config, tensors, says):
    write(tmp_path / "adapters.safetensors", tensors)
    write(tmp_path / "0000040_adapters.safetensors", tensors)
    if config is not None:
        (tmp_path / "adapter_config.json").write_text(json.dumps(config))
    verdict = verify(tmp_path)
    assert verdict.kind == "adapter"
    assert verdict.sha256 == hashlib.sha256((tmp_path / "adapters.safetensors").read_bytes()).hexdigest()
    if says is None:
        assert verdict.ok, verdict.problems
    else:
        assert [says in problem for problem in verdict.problems] == [True, True]


def test_one_torn_numbered_file_is_named(tmp_path):
    write(tmp_path / "adapters.safetensors", lora())
    torn = write(tmp_path / "0000040_adapters.safetensors", lora())
    torn.write_bytes(torn.read_bytes()[:-4])
    assert verify(tmp_path).problems[0].startswith("0000040_adapters.safetensors: ")


def test_a_folder_without_anything(tmp_path):
    assert "neither manifest.json nor a safetensors file" in verify(tmp_path).problems[0]


def test_a_path_that_does_not_exist(tmp_path):
    assert "does not exist" in verify(tmp_path / "nothing.safetensors").problems[0]


def test_a_numbered_file_knows_its_iteration(tmp_path):
    assert verify(write(tmp_path / "0000040_adapters.safetensors", lora())).iteration == 40
