"""Trains a tiny model in this process, step by step, with whole batches or with batches in row groups."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import mlx.core as mx
import numpy as np
from mlx import nn, optimizers
from mlx.utils import tree_flatten, tree_map
from mlx_lm.models import qwen3, qwen3_moe
from mlx_lm.tuner.trainer import default_loss, grad_checkpoint
from mlx_lm.tuner.utils import linear_to_lora_layers

from stoker.supervisor.trainer.generators import key_words, mlx_key
from stoker.supervisor.trainer.step import Step

VOCABULARY, HIDDEN, LAYERS = 96, 32, 2
ADAPTED = {"rank": 4, "scale": 2.0}


@dataclass(frozen=True)
class Case:
    """How to train. `masked`: only part of each row counts, and row 1 has no target token at all, as with mask_prompt."""

    kind: str = "full"
    dropout: float = 0.0
    optimizer: str = "sgd"
    options: Mapping[str, Any] = field(default_factory=dict)
    rate: float = 0.05
    accumulation: int = 1
    checkpointed: bool = False
    quantized: bool = False
    dtype: mx.Dtype = mx.float32
    masked: bool = False
    experts: bool = False
    batch: int = 5
    width: int = 17
    iterations: int = 4


@dataclass(frozen=True)
class Trained:
    """What each iteration gave, and what was there at the end."""

    losses: Sequence[float]
    tokens: Sequence[int]
    keys: Sequence[tuple[int, int]]
    parameters: Mapping[str, np.ndarray]
    optimizer: Mapping[str, np.ndarray]


def trained(
    case: Case,
    micro_batch: int | None,
    *,
    seed: int = 3,
    instead: tuple[mx.array, mx.array] | None = None,
    compiling: Callable[[], object] = lambda: None,
) -> Trained:
    """Train a model that is the same each time; `seed` is that of the dropout masks, `instead` takes the place of each
    batch, `compiling` is called before each computation that is new.
    """
    with made(case) as model:
        known = {"adam": "Adam", "adamw": "AdamW", "muon": "Muon", "sgd": "SGD", "adafactor": "Adafactor"}
        optimizer = getattr(optimizers, known[case.optimizer])(learning_rate=case.rate, **case.options)
        mx.random.seed(seed)
        step = Step(model, optimizer, default_loss, case.accumulation, micro_batch, compiling=compiling)
        losses, tokens, keys, gradient = [], [], [], None
        for iteration, batch in enumerate(batches(case), start=1):
            loss, counted, gradient = step(instead or batch, gradient, iteration % case.accumulation == 0)
            mx.eval(step.state, loss, counted, gradient)
            losses.append(loss.item())
            tokens.append(counted.item())
            keys.append(key_words(mlx_key()))
        return Trained(losses, tokens, keys, _arrays(model.trainable_parameters()), _arrays(optimizer.state))


def batches(case: Case) -> Iterator[tuple[mx.array, mx.array]]:
    """Rows and their (offset, length), as mlx-lm's iterator gives them; always the same ones for a case."""
    source = np.random.default_rng(case.batch * 100 + case.width)
    for _ in range(case.iterations):
        rows = source.integers(0, VOCABULARY, (case.batch, case.width))
        lengths = source.integers(2, case.width + 1, case.batch)
        offsets = source.integers(0, lengths) if case.masked else np.zeros_like(lengths)
        if case.masked and case.batch > 1:
            offsets[1] = lengths[1] = case.width
        yield mx.array(rows), mx.array(np.stack([offsets, lengths], axis=1))


@contextmanager
def made(case: Case) -> Iterator[Any]:
    """The model of a case in training mode."""
    mx.random.seed(1)
    sizes: dict[str, Any] = {
        "hidden_size": HIDDEN, "num_hidden_layers": LAYERS, "intermediate_size": 2 * HIDDEN, "vocab_size": VOCABULARY,
        "num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 16, "rms_norm_eps": 1e-6, "rope_theta": 1e4,
        "max_position_embeddings": 512, "tie_word_embeddings": True,
    }  # fmt: skip
    if case.experts:
        routed = {"num_experts": 4, "num_experts_per_tok": 2, "decoder_sparse_step": 1, "mlp_only_layers": []}
        model = qwen3_moe.Model(
            qwen3_moe.ModelArgs("qwen3_moe", moe_intermediate_size=HIDDEN, norm_topk_prob=True, **sizes, **routed)
        )
    else:
        model = qwen3.Model(qwen3.ModelArgs("qwen3", **sizes))
    model.update(tree_map(lambda x: _random(x).astype(case.dtype), model.parameters()))
    if case.quantized:
        nn.quantize(model, group_size=32, bits=8)
    if case.kind != "full":
        model.freeze()
        options = ADAPTED | {"dropout": case.dropout}
        linear_to_lora_layers(model, LAYERS, options, use_dora=case.kind == "dora")
        model.update(tree_map(_random, model.trainable_parameters()))
    model.train()
    block = type(model.layers[0])
    stock = block.__call__
    if case.checkpointed:
        grad_checkpoint(model.layers[0])  # changes the class, for all its instances
    try:
        yield model
    finally:
        block.__call__ = stock


def _random(parameter: mx.array) -> mx.array:
    """Matrices are random, the zeros of a fresh adapter too: with them half of its gradients would be zero."""
    return mx.random.normal(parameter.shape) * 0.1 if parameter.ndim > 1 else parameter


def _arrays(tree: Any) -> dict[str, np.ndarray]:
    return {name: np.array(value.astype(mx.float32)) for name, value in tree_flatten(tree)}


def differences(one: Trained, other: Trained) -> dict[str, float]:
    """The largest distance of two results: of losses, of parameters and of the optimizer's state, each tensor in units
    of its own largest number.
    """
    assert one.parameters.keys() == other.parameters.keys()
    assert one.optimizer.keys() == other.optimizer.keys()
    return {
        "losses": float(np.max(np.abs(np.subtract(one.losses, other.losses) / one.losses))),
        "parameters": max(_distance(one.parameters[name], other.parameters[name]) for name in one.parameters),
        "optimizer": max(_distance(one.optimizer[name], other.optimizer[name]) for name in one.optimizer),
    }


def _distance(one: np.ndarray, other: np.ndarray) -> float:
    return float(np.max(np.abs(one - other)) / max(float(np.max(np.abs(one))), 1e-30))
