"""How fast the verifier reads a warm file of each type, and how much memory it takes (the bar: 1 GB/s and 150 MB)."""

import json
import subprocess
import sys

import numpy as np
import pytest
from harness_safetensors import bf16, write

pytestmark = pytest.mark.benchmark

SIZE = 2 << 30  # bytes of a file
PART = 64 << 20  # bytes of a tensor
PASSES = 5

# In a process of its own, so that the peak is the verifier's. The first pass warms the file.
MEASURE = '''
import hashlib, json, pathlib, resource, sys, time
from stoker.recovery.checkpoint.verify import verify

def hashed(path):
    with path.open("rb") as file:
        hashlib.file_digest(file, "sha256")

def rates(work):
    taken = []
    for _ in range(int(sys.argv[2])):
        began = time.perf_counter()
        work(path)
        taken.append(path.stat().st_size / (time.perf_counter() - began) / 1e9)
    return sorted(taken)

def peak():
    """In MiB. On Linux not ru_maxrss: that begins with the size of the process that forked this one."""
    status = pathlib.Path("/proc/self/status")
    if status.exists():
        return int(status.read_text().split("VmHWM:")[1].split()[0]) / 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1 << 20)

path = pathlib.Path(sys.argv[1])
assert verify(path).ok
print(json.dumps({"verify": rates(verify), "hash": rates(hashed), "peak": peak()}))
'''


@pytest.mark.parametrize(("dtype", "convert"), [("bf16", bf16), ("f16", np.float16), ("f32", np.float32)])
def test_a_large_file(tmp_path, dtype, convert):
    values = convert(np.random.default_rng(0).standard_normal((PART // 4, 1), np.float32) * 0.02)
    tensor = np.concatenate([values] * (4 // values.itemsize)).reshape(-1, 4096)
    path = tmp_path / "adapters.safetensors"
    write(path, {f"model.layers.{n}.mlp.up_proj.weight": tensor for n in range(SIZE // PART)})
    done = subprocess.run(
        [sys.executable, "-c", MEASURE, str(path), str(PASSES)], capture_output=True, text=True, check=True
    )
    seen = json.loads(done.stdout)
    path.unlink()
    verify, alone = seen["verify"], seen["hash"]
    print(
        f"\n{dtype}: {SIZE / 1e9:.1f} GB verified at {verify[len(verify) // 2]:.2f} GB/s "
        f"({verify[0]:.2f} to {verify[-1]:.2f}; sha256 alone {alone[len(alone) // 2]:.2f}), "
        f"peak memory {seen['peak']:.0f} MiB"
    )
