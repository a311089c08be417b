"""A tiny model, tokenizer and data set that mlx-lm trains for real, made without a download and without mlx.

The model is a qwen3 of some hundred thousand parameters with random weights; it learns the little grammar of the
made-up sentences, so the loss of a healthy run falls and a broken one shows.
"""

import json
import random
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

_END, _PAD = "<|end|>", "<|pad|>"
_ROLES = ("system", "user", "assistant")
_SUBJECTS = ("the stoker", "a fireman", "the engine", "an old boiler", "the driver", "our signalman", "the night train")
_VERBS = ("feeds", "watches", "follows", "repairs", "carries", "meets", "warms")
_OBJECTS = ("the fire", "a long rail", "the coal", "seven wagons", "the gauge", "the whistle", "a cold station")
_PLACES = ("before dawn", "in the rain", "near the bridge", "after midnight", "on the hill", "without a sound")
_CHAT_TEMPLATE = (
    "{% for m in messages %}<|{{ m['role'] }}|>{{ m['content'] }}" + _END + "{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
_DTYPES = {"float32": "F32", "float16": "F16", "bfloat16": "BF16"}  # as the safetensors format names them


@dataclass(frozen=True, slots=True)
class Tiny:
    """Where the parts are; both folders are what mlx-lm's `model` and `data` keys take."""

    model: Path
    data: Path


def make_tiny(
    directory: Path,
    *,
    hidden: int = 64,
    layers: int = 4,
    heads: int = 4,
    vocab: int = 512,
    dtype: str = "float32",
    examples: int = 96,
    seed: int = 0,
    tied: bool = True,
    style: str = "text",
    valid: bool = True,
) -> Tiny:
    """Write `model/` and `data/` below `directory`.

    Args:
        directory: made if missing; files in it are overwritten.
        hidden: width of the model, a multiple of 32.
        layers: number of transformer blocks.
        heads: of attention, an even divisor of hidden; half as many for keys and values.
        vocab: size of the vocabulary, 300 or more.
        dtype: of the weights: float32, float16 or bfloat16.
        examples: lines in train.jsonl; valid.jsonl and test.jsonl get a quarter of that, 8 at least.
        seed: everything random follows from it.
        tied: whether input and output embeddings are one matrix.
        style: of the lines: "text" ({"text"}), "prompt" ({"prompt", "completion"}) or "chat" ({"messages"}, one to
            three turns, some after a system message).
        valid: whether there is a valid.jsonl; the other files are the same without it.
    """
    tiny = Tiny(directory / "model", directory / "data")
    tiny.model.mkdir(parents=True, exist_ok=True)
    tiny.data.mkdir(parents=True, exist_ok=True)
    _write_data(tiny.data, examples=examples, seed=seed, style=style)
    if not valid:
        (tiny.data / "valid.jsonl").unlink()
    _write_tokenizer(tiny.model, vocab=vocab)
    config = _model_config(hidden=hidden, layers=layers, heads=heads, vocab=vocab, dtype=dtype, tied=tied)
    (tiny.model / "config.json").write_text(json.dumps(config, indent=1), encoding="utf-8")
    _write_weights(tiny.model / "model.safetensors", config, dtype=dtype, seed=seed)
    return tiny


def _sentences(source: random.Random, count: int) -> str:
    words = (" ".join(source.choice(kind) for kind in (_SUBJECTS, _VERBS, _OBJECTS, _PLACES)) for _ in range(count))
    return ". ".join(words) + "."


def _write_data(folder: Path, *, examples: int, seed: int, style: str) -> None:
    source = random.Random(seed)  # noqa: S311 - made-up sentences, no secret
    for split, count in (("train", examples), ("valid", max(8, examples // 4)), ("test", max(8, examples // 4))):
        with (folder / f"{split}.jsonl").open("w", encoding="utf-8") as file:
            for _ in range(count):
                file.write(json.dumps(_line(source, style)) + "\n")


def _line(source: random.Random, style: str) -> dict[str, Any]:
    if style == "chat":
        return {"messages": _conversation(source)}
    text = _sentences(source, source.randint(1, 4))
    return {"text": text} if style == "text" else {"prompt": text, "completion": _sentences(source, 1)}


def _conversation(source: random.Random) -> list[dict[str, str]]:
    """Ends with the assistant, as mlx-lm's prompt masking wants it."""
    begin = ["system"] * source.randint(0, 1)
    roles = [*begin, *("user", "assistant") * source.randint(1, 3)]
    return [{"role": role, "content": _sentences(source, 1)} for role in roles]


def _write_tokenizer(folder: Path, *, vocab: int) -> None:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    special = [_END, _PAD, *(f"<|{role}|>" for role in _ROLES)]
    trainer = trainers.BpeTrainer(
        vocab_size=vocab,
        special_tokens=special,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    grammar = _sentences(random.Random(1), 2000)  # noqa: S311 - made-up sentences, no secret
    tokenizer.train_from_iterator([grammar], trainer)
    tokenizer.save(str(folder / "tokenizer.json"))
    settings = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "eos_token": _END,
        "pad_token": _PAD,
        "model_max_length": 4096,
        "chat_template": _CHAT_TEMPLATE,
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(settings, indent=1), encoding="utf-8")


def _model_config(*, hidden: int, layers: int, heads: int, vocab: int, dtype: str, tied: bool) -> dict[str, Any]:
    return {
        "architectures": ["Qwen3ForCausalLM"],
        "model_type": "qwen3",
        "hidden_size": hidden,
        "num_hidden_layers": layers,
        "intermediate_size": 2 * hidden,
        "num_attention_heads": heads,
        "num_key_value_heads": heads // 2,
        "head_dim": hidden // heads,
        "rms_norm_eps": 1e-6,
        "vocab_size": vocab,
        "max_position_embeddings": 4096,
        "rope_theta": 10000.0,
        "tie_word_embeddings": tied,
        "torch_dtype": dtype,
    }


def _shapes(config: dict[str, Any]) -> dict[str, tuple[int, ...]]:
    hidden, wide, head = config["hidden_size"], config["intermediate_size"], config["head_dim"]
    queries, keys = config["num_attention_heads"] * head, config["num_key_value_heads"] * head
    block = {
        "input_layernorm.weight": (hidden,),
        "post_attention_layernorm.weight": (hidden,),
        "self_attn.q_proj.weight": (queries, hidden),
        "self_attn.k_proj.weight": (keys, hidden),
        "self_attn.v_proj.weight": (keys, hidden),
        "self_attn.o_proj.weight": (hidden, queries),
        "self_attn.q_norm.weight": (head,),
        "self_attn.k_norm.weight": (head,),
        "mlp.gate_proj.weight": (wide, hidden),
        "mlp.up_proj.weight": (wide, hidden),
        "mlp.down_proj.weight": (hidden, wide),
    }
    shapes: dict[str, tuple[int, ...]] = {"model.embed_tokens.weight": (config["vocab_size"], hidden)}
    for layer in range(config["num_hidden_layers"]):
        shapes |= {f"model.layers.{layer}.{name}": shape for name, shape in block.items()}
    shapes["model.norm.weight"] = (hidden,)
    if not config["tie_word_embeddings"]:
        shapes["lm_head.weight"] = (config["vocab_size"], hidden)
    return shapes


def _write_weights(path: Path, config: dict[str, Any], *, dtype: str, seed: int) -> None:
    """A safetensors file: length of the header (8 bytes), header, tensors. Written here because numpy knows no
    bfloat16.
    """
    source = np.random.default_rng(seed)
    header: dict[str, Any] = {"__metadata__": {"format": "mlx"}}
    tensors, offset = [], 0
    for name, shape in _shapes(config).items():
        values = np.ones(shape) if len(shape) == 1 else source.standard_normal(shape) * 0.02
        data = _raw(values.astype(np.float32), dtype)
        header[name] = {"dtype": _DTYPES[dtype], "shape": list(shape), "data_offsets": [offset, offset + len(data)]}
        tensors.append(data)
        offset += len(data)
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + b"".join(tensors))


def _raw(values: "np.ndarray[Any, np.dtype[np.float32]]", dtype: str) -> bytes:
    """The bytes of the values in `dtype`; bfloat16 is float32 rounded to its upper half."""
    if dtype == "float32":
        return values.tobytes()
    if dtype == "float16":
        return values.astype(np.float16).tobytes()
    bits = values.view(np.uint32)
    rounded = bits + np.uint32(0x7FFF) + ((bits >> np.uint32(16)) & np.uint32(1))
    return (rounded >> np.uint32(16)).astype(np.uint16).tobytes()
