"""Safetensors files made by hand, of numpy arrays: models, weights trained from them, LoRA adapters."""

import hashlib
import json
import struct

import numpy as np
import yaml

from stoker.recovery.checkpoint.manifest import FileFacts, Manifest, encode
from stoker.recovery.checkpoint.reference import model_fingerprint

DTYPES = {"float32": "F32", "float16": "F16", "uint16": "BF16", "uint32": "U32", "float64": "F64", "complex64": "C64"}


def write(path, tensors, written_by="mlx"):
    """Write a safetensors file; uint16 arrays stand for bf16."""
    header, end = {"__metadata__": {"format": written_by}}, 0
    for name, array in tensors.items():
        offsets = [end, end := end + array.nbytes]
        header[name] = {"dtype": DTYPES[array.dtype.name], "shape": list(array.shape), "data_offsets": offsets}
    text = json.dumps(header).encode()
    with path.open("wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        file.writelines(array.tobytes() for array in tensors.values())
    return path


def bf16(array):
    """The upper halves of float32 values."""
    return (np.asarray(array, np.float32).view(np.uint32) >> 16).astype(np.uint16)


WIDTH, WIDE, VOCABULARY = 16, 24, 40
SHAPES = {  # of one block: outputs, inputs
    "input_layernorm.weight": (WIDTH,),
    "self_attn.q_proj.weight": (WIDTH, WIDTH),
    "self_attn.q_proj.bias": (WIDTH,),
    "mlp.up_proj.weight": (WIDE, WIDTH),
    "mlp.down_proj.weight": (WIDTH, WIDE),
}


def noise(shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape, np.float32)


def model(layers=4, convert=lambda values: values):
    """The tensors of a base model with tied embeddings: norms are ones and biases zeros, as they often begin."""
    tensors = {"model.embed_tokens.weight": noise((VOCABULARY, WIDTH)), "model.norm.weight": np.ones(WIDTH, np.float32)}
    for layer in range(layers):
        for seed, (name, shape) in enumerate(SHAPES.items()):
            begin = {"input_layernorm.weight": np.ones, "self_attn.q_proj.bias": np.zeros}.get(name)
            values = begin(shape, np.float32) if begin else noise(shape, seed)
            tensors[f"model.layers.{layer}.{name}"] = values
    return {name: convert(values) for name, values in tensors.items()}


def trained(tensors, top=None):
    """What a full fine-tune of the topmost blocks leaves of a model: every value moved a little."""
    blocks = 1 + max(int(name.split(".")[2]) for name in tensors if ".layers." in name)
    first = blocks - (top or blocks)
    return {
        name: _moved(values)
        for name, values in tensors.items()
        if ".layers." in name and int(name.split(".")[2]) >= first
    }


def _moved(values):
    if values.dtype == np.uint16:
        return values ^ (np.arange(values.size, dtype=np.uint16).reshape(values.shape) & 1)
    return values + noise(values.shape, 9).astype(values.dtype) / 64


def save_model(folder, tensors, written_by="mlx", shards=1, **config):
    """A model's folder; more than one shard comes with its index."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config))
    if shards == 1:
        write(folder / "model.safetensors", tensors, written_by)
        return folder
    index = {}
    for shard in range(shards):
        part = dict(list(tensors.items())[shard::shards])
        file = f"model-{shard + 1:05d}-of-{shards:05d}.safetensors"
        write(folder / file, part, written_by)
        index |= dict.fromkeys(part, file)
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": index}))
    return folder


def factors(modules, rank=4, dora=False):
    """LoRA factors for {module: (outputs, inputs)} as mlx-lm makes them, after a step."""
    tensors = {}
    for module, (outputs, inputs) in modules.items():
        tensors |= {f"{module}.lora_a": noise((inputs, rank)), f"{module}.lora_b": noise((rank, outputs))}
        if dora:
            tensors[f"{module}.m"] = noise((outputs,)) ** 2
    return tensors


def save_adapter(folder, tensors, **config):
    """An adapter's folder as mlx-lm leaves it."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "adapter_config.json").write_text(json.dumps(config))
    write(folder / "adapters.safetensors", tensors)
    return folder


def save_checkpoint(run, weights, optimizer, *, attempt=1, step=20, method="full"):
    """A committed checkpoint of a run, as the trainer writes it."""
    folder = run / "checkpoints" / f"{2 * step:08d}-a{attempt}"
    folder.mkdir(parents=True)
    write(folder / "weights.safetensors", weights)
    write(folder / "optimizer.safetensors", optimizer)
    state = dict.fromkeys(("v", "report", "epoch", "numpy", "mlx_key", "start_digest"), 1)
    (folder / "state.json").write_text(json.dumps(state | {"iteration": 2 * step, "step": step}))
    files = {
        path.name: FileFacts(path.stat().st_size, hashlib.sha256(path.read_bytes()).hexdigest())
        for path in folder.iterdir()
    }
    totals = {"count": len(weights), "params": sum(values.size for values in weights.values())}
    manifest = Manifest(
        "r", attempt, 2 * step, step, None, "now", method, files, "", {}, 1.0, finite=True, tensors=totals
    )
    (folder / "manifest.json").write_bytes(encode(manifest))
    return folder


def save_run(run, base, **config):
    """A run's folder after its first load: frozen inputs and the configuration of attempt 1."""
    attempt = run / "attempts" / "1"
    attempt.mkdir(parents=True)
    (attempt / "config.yaml").write_text(yaml.safe_dump({"model": "hub/name", **config}))
    inputs = {"v": 1, "model": str(base), "fingerprint": model_fingerprint(base), "data": {}, "versions": {}}
    (run / "inputs.json").write_text(json.dumps(inputs))
    return run


def moments(weights, leaves=("m", "v")):
    """The state of Adam, flattened as mlx does it."""
    state = {f"{name}.{leaf}": noise(values.shape, 3) for name, values in weights.items() for leaf in leaves}
    return state | {"step": np.asarray([20], np.uint32), "learning_rate": np.asarray([1e-4], np.float32)}
