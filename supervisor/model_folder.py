"""A model folder, read without loading a weight: config.json and the headers of the safetensors files."""

import json
import os
import re
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from stoker.profiles.facts import ModelFacts
from stoker.recovery.checkpoint.safetensors import DTYPE_BYTES, Layout, Tensor, read_layout
from stoker.supervisor.checks import Check, explain_access, in_bytes

_KEY = ("model",)
_LAYER_KEYS = ("num_hidden_layers", "n_layers", "n_layer", "num_layers")
_TOKENIZERS = ("tokenizer.json", "tokenizer.model", "tokenizer_config.json", "vocab.json")
_MAX_JSON = 20_000_000  # bytes; an index of a thousand shards has less
_COMMIT = re.compile(r"[0-9a-f]{40}")


def read_model(folder: Path) -> tuple[ModelFacts | None, tuple[Check, ...]]:
    """Return what is known of the model in `folder`, and the checks `model` and `weights`."""
    try:
        names = sorted(os.listdir(folder))  # noqa: PTH208 - names only
        config = _read_object(folder / "config.json")
    except OSError as error:
        return None, (_model_failure(folder, error),)
    except ValueError as error:
        detail = f"{folder / 'config.json'} is not a JSON object: {error}"
        return None, (Check("model", "fail", detail, "download or convert the model again", _KEY),)
    files = [name for name in names if name.startswith("model") and name.endswith(".safetensors")]
    if not files:
        return None, (Check("model", "fail", *_no_weights(folder, names), _KEY),)
    layouts, problems = _layouts(folder, files)
    problems += _missing_shards(folder, files)
    facts = _facts(folder, config, [tensor for layout in layouts for tensor in layout.tensors])
    checks = [Check("model", "pass", describe(facts), key=_KEY)]
    if not any(name in names for name in _TOKENIZERS):
        fix = "copy tokenizer.json and tokenizer_config.json of the model here"
        checks = [Check("model", "warn", f"{folder} holds no tokenizer that mlx-lm would find", fix, _KEY)]
    if problems:
        shown = "; ".join(problems[:3]) + (f"; and {len(problems) - 3} more" if len(problems) > 3 else "")
        checks.append(Check("weights", "fail", shown, "download the model again: it is not complete", _KEY))
    return facts, tuple(checks)


def describe(facts: ModelFacts) -> str:
    """Return a model in one line."""
    layers = f"{facts.num_hidden_layers} layers, " if facts.num_hidden_layers is not None else ""
    size = in_bytes(facts.size_bytes)
    if facts.bits:
        return f"{facts.model_type}, {layers}{facts.bits}-bit, {size}"
    return f"{facts.model_type}, {layers}{facts.parameters / 1e6:,.1f} M parameters, {facts.dtype}, {size}"


def cached_snapshot(hub_id: str, environment: Mapping[str, str], home: Path) -> Path | None:
    """Return the folder where the Hugging Face cache of this machine keeps a model, if it does."""
    hub = environment.get("HF_HUB_CACHE") or environment.get("HUGGINGFACE_HUB_CACHE")
    if not hub:
        base = environment.get("HF_HOME") or str(home / ".cache" / "huggingface")
        hub = str(Path(base) / "hub")
    repository = Path(hub) / f"models--{hub_id.replace('/', '--')}"
    try:
        commit = (repository / "refs" / "main").read_text(encoding="ascii").strip()
    except (OSError, ValueError):
        return None
    folder = repository / "snapshots" / commit
    return folder if _COMMIT.fullmatch(commit) and os.path.isfile(folder / "config.json") else None  # noqa: PTH113 - never raises


def _model_failure(folder: Path, error: OSError) -> Check:
    if isinstance(error, FileNotFoundError) and os.path.isdir(folder):  # noqa: PTH112 - never raises
        detail, fix = f"{folder} is no model: there is no config.json in it", "name the folder that holds config.json"
        return Check("model", "fail", detail, fix, _KEY)
    if isinstance(error, NotADirectoryError) and os.path.isfile(folder):  # noqa: PTH113 - never raises
        return Check("model", "fail", f"{folder} is a file", "name the folder that holds config.json", _KEY)
    detail, fix = explain_access(error, Path(error.filename or folder))
    return Check("model", "fail", detail, f"{fix}; a model of the Hugging Face hub is written org/name", _KEY)


def _no_weights(folder: Path, names: list[str]) -> tuple[str, str]:
    if any(name.endswith((".bin", ".pt", ".pth")) for name in names):
        return (
            f"{folder} holds PyTorch weights; mlx-lm reads model*.safetensors only",
            f"convert it: mlx_lm.convert --hf-path {folder} --mlx-path NEW_FOLDER",
        )
    if any(name.endswith(".gguf") for name in names):
        return f"{folder} holds a GGUF file; mlx-lm trains from model*.safetensors only", "take the original model"
    return f"{folder} holds no model*.safetensors: no weights", "download the model again: it is not complete"


def _read_object(path: Path) -> dict[str, Any]:
    with path.open("rb") as file:
        data = file.read(_MAX_JSON + 1)
    if len(data) > _MAX_JSON:
        raise ValueError(f"it is larger than {_MAX_JSON:,} bytes")
    try:
        value = json.loads(data)
    except RecursionError:
        raise ValueError("it is nested too deep") from None
    if not isinstance(value, dict):
        raise ValueError("it holds something else")  # noqa: TRY004 - one kind of error for what is wrong in the file
    return value


def _layouts(folder: Path, files: list[str]) -> tuple[list[Layout], list[str]]:
    layouts, problems = [], []
    for name in files:
        path = folder / name
        try:
            with path.open("rb") as file:
                layout = read_layout(file, os.fstat(file.fileno()).st_size)
        except OSError as error:
            problems.append(explain_access(error, path)[0])
            continue
        layouts.append(layout)
        problems += [f"{name}: {problem}" for problem in layout.problems]
    return layouts, problems


def _missing_shards(folder: Path, files: list[str]) -> list[str]:
    try:
        index = _read_object(folder / "model.safetensors.index.json").get("weight_map")
    except (OSError, ValueError):
        return []  # most models have no index, and mlx-lm does not read it
    named = {name for name in index.values() if isinstance(name, str)} if isinstance(index, dict) else set()
    return [f"{name} is missing, which the index names" for name in sorted(named - set(files))]


def _facts(folder: Path, config: Mapping[str, Any], tensors: list[Tensor]) -> ModelFacts:
    text = config.get("text_config")
    sources = [config, text] if isinstance(text, dict) else [config]
    layers = [source[key] for source in sources for key in _LAYER_KEYS if type(source.get(key)) is int]
    sizes: Counter[str] = Counter()
    for tensor in tensors:
        sizes[tensor.dtype] += tensor.end - tensor.begin
    quantization = config.get("quantization")
    bits = quantization.get("bits") if isinstance(quantization, dict) else None
    named_head = any(tensor.name.endswith("lm_head.weight") for tensor in tensors)
    return ModelFacts(
        path=str(folder),
        model_type=str(config.get("model_type", "unknown"))[:60],
        num_hidden_layers=layers[0] if layers else None,
        size_bytes=sizes.total(),
        parameters=sum((tensor.end - tensor.begin) // DTYPE_BYTES[tensor.dtype] for tensor in tensors),
        dtype=sizes.most_common(1)[0][0] if sizes else "unknown",
        tied=any(bool(source.get("tie_word_embeddings")) for source in sources) and not named_head,
        bits=bits if isinstance(bits, int) else None,
        shapes={t.name: (t.shape[0], t.shape[1]) for t in tensors if len(t.shape) == 2 and t.name.endswith(".weight")},
    )
