"""The matrix of configurations for which resume is exact, as data: values by dimension, and named cases that cover all
of them and the pairs that share code or state.
"""

import json
import random
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from harness_trainer import EXAMPLES, environment

from stoker.supervisor.demo.tiny import Tiny, make_tiny

_LORA = {"rank": 8, "dropout": 0.0, "scale": 20.0}


@dataclass(frozen=True)
class Value:
    """One value of a dimension: keys of the config, and what it asks of model and data (see `Variants.make`)."""

    config: Mapping[str, Any] = field(default_factory=dict)
    tiny: Mapping[str, Any] = field(default_factory=dict)


def _optimizer(name: str, rate: float, **settings: Any) -> Value:
    return Value({"optimizer": name, "learning_rate": rate, "optimizer_config": {name: settings}})


def _schedule(name: str, *factors: float, **more: Any) -> Value:
    """Of the optimizer's learning rate: the first argument, and those that are rates, are factors of it."""
    return Value({"lr_schedule": {"name": name, "arguments": list(factors), **more}})


def _data(style: str, rename: Mapping[str, str] | None = None, **config: Any) -> Value:
    """`rename` maps mlx-lm's usual key of a line to another one, which the config then has to name."""
    features = {f"{_FEATURE.get(usual, usual)}_feature": other for usual, other in (rename or {}).items()}
    return Value({**features, **config}, {"style": style, "rename": tuple((rename or {}).items())})


_FEATURE = {"messages": "chat"}  # mlx-lm calls the key of the messages chat_feature
_RATES = {  # which arguments of a schedule are learning rates
    "cosine_decay": (0, 2),
    "linear_schedule": (0, 1),
    "exponential_decay": (0,),
    "step_decay": (0,),
}

# The first value of each dimension is what a case has that says nothing.
MATRIX: dict[str, dict[str, Value]] = {
    "tune": {
        "lora": Value({"fine_tune_type": "lora", "num_layers": 4, "lora_parameters": _LORA}),
        "lora-top": Value({"fine_tune_type": "lora", "num_layers": 2, "lora_parameters": {**_LORA, "rank": 4}}),
        "lora-keys": Value(
            {
                "fine_tune_type": "lora",
                "num_layers": -1,
                "lora_parameters": {**_LORA, "keys": ["self_attn.q_proj", "mlp.down_proj", "model.embed_tokens"]},
            }
        ),
        "dora": Value({"fine_tune_type": "dora", "num_layers": 4, "lora_parameters": _LORA}),
        "full": Value({"fine_tune_type": "full", "num_layers": -1}),
    },
    "optimizer": {
        "adam": _optimizer("adam", 1e-3),
        "adam-corrected": _optimizer("adam", 1e-3, betas=[0.85, 0.99], eps=1e-6, bias_correction=True),
        "adamw": _optimizer("adamw", 1e-3, weight_decay=0.05),
        "muon": _optimizer("muon", 2e-3, momentum=0.9, weight_decay=0.02, ns_steps=4),
        "sgd": _optimizer("sgd", 0.05, momentum=0.9, weight_decay=1e-4),
        "sgd-plain": _optimizer("sgd", 0.1),
        "adafactor": _optimizer("adafactor", 1e-3, relative_step=True, scale_parameter=True),
        "adafactor-warmup": _optimizer("adafactor", 1e-3, relative_step=True, warmup_init=True),
        "adafactor-fixed": _optimizer("adafactor", 1e-3, relative_step=False, scale_parameter=False, beta_1=0.9),
    },
    "schedule": {
        "constant": Value(),
        "cosine": _schedule("cosine_decay", 1.0, 20, 0.01, warmup=4),
        "linear": _schedule("linear_schedule", 1.0, 0.1, 9),
        "exponential": _schedule("exponential_decay", 1.0, 0.9, warmup=3, warmup_init=1e-5),
        "steps": _schedule("step_decay", 1.0, 0.5, 4),
    },
    "dropout": {"none": Value(), "dropout": Value({"lora_parameters": {"dropout": 0.1}})},
    "data": {
        "text": _data("text"),
        "text-key": _data("text", {"text": "sentence"}),
        "prompt": _data("prompt"),
        "prompt-masked": _data("prompt", mask_prompt=True),
        "prompt-keys-masked": _data("prompt", {"prompt": "question", "completion": "answer"}, mask_prompt=True),
        "chat": _data("chat"),
        "chat-masked": _data("chat", mask_prompt=True),
        "chat-key-masked": _data("chat", {"messages": "dialogue"}, mask_prompt=True),
    },
    "accumulation": {
        "1": Value({"grad_accumulation_steps": 1}),
        "2": Value({"grad_accumulation_steps": 2}),
        "3": Value({"grad_accumulation_steps": 3}),
        "5": Value({"grad_accumulation_steps": 5}),  # does not divide the 24 iterations
    },
    "recompute": {"off": Value(), "grad-checkpoint": Value({"grad_checkpoint": True})},
    "validation": {
        "2": Value({"val_batches": 2}),
        "all": Value({"val_batches": -1}),
        "0": Value({"val_batches": 0}),
        "no-set": Value({}, {"valid": False}),
        "every-iteration": Value({"val_batches": 1, "steps_per_eval": 1}),
    },
    "batch": {"4": Value({"batch_size": 4}), "3": Value({"batch_size": 3}), "1": Value({"batch_size": 1})},
    "save": {"10": Value({"save_every": 10}), "7": Value({"save_every": 7}), "never": Value({"save_every": 1000})},
    "model": {
        "tied": Value({}, {}),
        "untied": Value({}, {"tied": False}),
        "bf16": Value({}, {"dtype": "bfloat16"}),
        "bf16-untied": Value({}, {"dtype": "bfloat16", "tied": False}),
        "q4-64": Value({}, {"bits": 4, "group": 64}),
        "q4-32-bf16": Value({}, {"bits": 4, "group": 32, "dtype": "bfloat16"}),
        "q8-32-untied": Value({}, {"bits": 8, "group": 32, "tied": False}),
    },
    "test": {"off": Value(), "test": Value({"test": True, "test_batches": 1})},
    "iters": {  # an epoch has ten batches of four lines
        "24": Value({"iters": 24}),
        "16": Value({"iters": 16}),
        "40": Value({"iters": 40}),
    },
    "length": {"256": Value({"max_seq_length": 256}), "32": Value({"max_seq_length": 32})},
}
_IMPOSSIBLE = (  # what mlx-lm or Stoker refuses, or what would not test anything
    ({"tune": "full"}, {"dropout": "dropout"}),  # no LoRA layers that could drop anything
    *(({"tune": "full"}, {"model": name}) for name in MATRIX["model"] if name.startswith("q")),
    ({"data": "prompt-masked"}, {"length": "32"}),  # prompts would fill it: nothing to learn
    ({"data": "prompt-keys-masked"}, {"length": "32"}),
    ({"data": "chat-masked"}, {"length": "32"}),
    ({"data": "chat-key-masked"}, {"length": "32"}),
    *(({"optimizer": "adafactor-warmup"}, {"model": m}) for m in MATRIX["model"] if "bf16" in m),  # steps round to 0
)


@dataclass(frozen=True)
class Case:
    """A configuration: one value of each dimension."""

    name: str
    values: Mapping[str, str]

    @classmethod
    def of(cls, name: str, **chosen: str) -> "Case":
        for dimension, value in chosen.items():
            assert value in MATRIX[dimension], f"{name}: {dimension} has no {value}"
        return cls(name, {dimension: next(iter(values)) for dimension, values in MATRIX.items()} | chosen)

    @property
    def possible(self) -> bool:
        pairs = set(self.values.items())
        return not any(one.items() <= pairs and other.items() <= pairs for one, other in _IMPOSSIBLE)

    @cached_property
    def config(self) -> dict[str, Any]:
        """Keys of the mlx-lm config, on top of harness_trainer.BASE."""
        whole: dict[str, Any] = {}
        for dimension, value in self.values.items():
            for key, content in MATRIX[dimension][value].config.items():
                whole[key] = {**whole.get(key, {}), **content} if isinstance(content, dict) else content
        if schedule := whole.get("lr_schedule"):
            rate, rates = whole["learning_rate"], _RATES[schedule["name"]]
            numbers = schedule["arguments"]
            schedule["arguments"] = [rate * n if index in rates else n for index, n in enumerate(numbers)]
        return whole

    @cached_property
    def tiny(self) -> dict[str, Any]:
        """Options of model and data."""
        return {
            key: content
            for dimension, value in self.values.items()
            for key, content in MATRIX[dimension][value].tiny.items()
        }

    @property
    def words(self) -> str:
        """What differs from the first values."""
        plain = Case.of("").values
        return " ".join(f"{key}={value}" for key, value in self.values.items() if value != plain[key])


def random_case(name: str, source: random.Random, **fixed: str) -> Case:
    """Any possible combination, and each kind of tuning as often as the others; many of the other dimensions keep their
    first value, as in configs that people write.
    """
    fixed = {"tune": source.choice(list(MATRIX["tune"])), **fixed}
    while True:
        chosen = {key: source.choice(list(values)) for key, values in MATRIX.items() if source.random() < 0.7}
        case = Case.of(name, **(chosen | fixed))
        if case.possible:
            return case


SMALL = (  # in CI; together they hold most values
    Case.of(
        "dora-on-4-bits",
        tune="dora",
        optimizer="adamw",
        schedule="cosine",
        dropout="dropout",
        data="chat-masked",
        accumulation="3",
        validation="all",
        model="q4-64",
        iters="16",
    ),
    Case.of(
        "full-untied-bf16",
        tune="full",
        optimizer="muon",
        schedule="exponential",
        data="prompt-keys-masked",
        accumulation="2",
        validation="no-set",
        save="7",
        model="bf16-untied",
        iters="16",
    ),
    Case.of(
        "lora-recomputed",
        optimizer="sgd",
        schedule="linear",
        dropout="dropout",
        data="text-key",
        accumulation="2",
        recompute="grad-checkpoint",
        validation="0",
        batch="3",
        model="untied",
        iters="16",
    ),
    Case.of(
        "full-adafactor",
        tune="full",
        optimizer="adafactor",
        data="prompt",
        recompute="grad-checkpoint",
        test="test",
        iters="16",
    ),
)
LARGE = (
    Case.of("lora", iters="40"),
    Case.of("lora-top-layers", tune="lora-top", optimizer="adamw", accumulation="2"),
    Case.of("lora-embedding", tune="lora-keys", optimizer="adam-corrected", model="untied", save="7"),
    Case.of("lora-embedding-quantized", tune="lora-keys", dropout="dropout", model="q4-64", accumulation="2"),
    Case.of("lora-bf16", model="bf16", optimizer="adamw", schedule="steps", accumulation="2"),
    Case.of("lora-bf16-dropout", model="bf16", dropout="dropout", accumulation="3", recompute="grad-checkpoint"),
    Case.of("lora-4-bits", model="q4-64", optimizer="adam", schedule="cosine", dropout="dropout"),
    Case.of("lora-8-bits", model="q8-32-untied", optimizer="adamw", data="prompt-masked", accumulation="2"),
    Case.of("lora-4-bits-recomputed", model="q4-32-bf16", recompute="grad-checkpoint", dropout="dropout"),
    Case.of("lora-muon", optimizer="muon", schedule="cosine", dropout="dropout", accumulation="2"),
    Case.of("lora-sgd", optimizer="sgd-plain", schedule="steps", data="prompt", batch="3"),
    Case.of("lora-adafactor", optimizer="adafactor", schedule="cosine", accumulation="2", validation="all"),
    Case.of("lora-short-sequences", length="32", data="text", batch="3", accumulation="5", save="7"),
    Case.of("lora-of-single-lines", batch="1", accumulation="5", dropout="dropout", validation="all"),
    Case.of("dora", tune="dora", schedule="cosine", accumulation="2", data="chat"),
    Case.of("dora-dropout", tune="dora", dropout="dropout", optimizer="muon", accumulation="3", batch="3"),
    Case.of("dora-recomputed", tune="dora", recompute="grad-checkpoint", dropout="dropout", data="chat-masked"),
    Case.of("dora-4-bits", tune="dora", model="q4-64", optimizer="adafactor-fixed", data="prompt-masked"),
    Case.of("dora-bf16", tune="dora", model="bf16", optimizer="adamw", validation="no-set"),
    Case.of("full", tune="full", schedule="cosine", accumulation="2"),
    Case.of("full-bf16", tune="full", model="bf16", optimizer="adamw", schedule="linear", accumulation="2"),
    Case.of("full-untied", tune="full", model="untied", optimizer="adam-corrected", recompute="grad-checkpoint"),
    Case.of("full-sgd", tune="full", optimizer="sgd", schedule="exponential", accumulation="3", batch="3"),
    Case.of("full-adafactor-warm-up", tune="full", optimizer="adafactor-warmup", accumulation="2", save="never"),
    Case.of("full-adafactor-fixed", tune="full", optimizer="adafactor-fixed", schedule="cosine", model="untied"),
    Case.of("full-adafactor-bf16", tune="full", optimizer="adafactor", model="bf16", data="prompt", batch="3"),
    Case.of("full-muon", tune="full", optimizer="muon", data="chat-key-masked", validation="0"),
    Case.of("full-validated-always", tune="full", validation="every-iteration", accumulation="2", save="7"),
    Case.of("full-tested", tune="full", optimizer="adamw", test="test", validation="no-set", data="prompt-masked"),
)
CASES = {case.name: case for case in (*SMALL, *LARGE)}

PAIRS = (  # what must stand together in at least one case
    {"dropout": "dropout", "accumulation": "2"},
    {"dropout": "dropout", "accumulation": "3"},
    {"dropout": "dropout", "recompute": "grad-checkpoint"},
    {"tune": "lora", "model": "q4-64"},
    {"tune": "dora", "model": "q4-64"},
    {"tune": "dora", "dropout": "dropout"},
    {"tune": "full", "model": "untied"},
    {"tune": "full", "model": "bf16"},
    {"tune": "lora", "model": "bf16"},
    {"tune": "full", "recompute": "grad-checkpoint"},
    {"tune": "full", "optimizer": "adafactor"},
    {"tune": "full", "optimizer": "muon"},
    {"tune": "full", "optimizer": "sgd"},
    {"tune": "full", "schedule": "cosine"},
    {"optimizer": "adafactor", "model": "bf16"},
    {"optimizer": "muon", "schedule": "cosine"},
    {"optimizer": "adafactor", "schedule": "cosine"},
    {"data": "chat-masked", "dropout": "dropout"},
    {"validation": "all", "accumulation": "3"},
    {"validation": "no-set", "test": "test"},
    {"batch": "3", "accumulation": "3"},
    {"save": "7", "accumulation": "2"},
)


def uncovered() -> Iterator[str]:
    """Values, and pairs of values, that no case has."""
    every = [set(case.values.items()) for case in CASES.values()]
    single = [{(key, value)} for key, values in MATRIX.items() for value in values]
    for wanted in (*single, *(set(pair.items()) for pair in PAIRS)):
        if not any(wanted <= case for case in every):
            yield " with ".join(f"{key}={value}" for key, value in sorted(wanted))


class Variants:
    """Tiny models and data sets, each made once."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._known: dict[str, Tiny] = {}

    def __call__(self, case: Case) -> Tiny:
        """What a case trains on."""
        key = json.dumps(case.tiny, sort_keys=True)
        if key not in self._known:
            self._known[key] = self._make(self._folder / str(len(self._known)), **case.tiny)
        return self._known[key]

    def _make(
        self,
        folder: Path,
        *,
        rename: tuple[tuple[str, str], ...] = (),
        bits: int | None = None,
        group: int = 64,
        **options: Any,
    ) -> Tiny:
        """`rename`: keys of the lines; `bits`, `group`: of a quantized model; the rest is make_tiny's."""
        tiny = make_tiny(folder, examples=EXAMPLES, **options)
        for file in tiny.data.glob("*.jsonl") if rename else ():
            names = dict(rename)
            lines = [json.loads(line) for line in file.read_text().splitlines()]
            rows = [{names.get(key, key): content for key, content in line.items()} for line in lines]
            file.write_text("".join(json.dumps(row) + "\n" for row in rows))
        if bits is None:
            return tiny
        target = folder / "quantized"
        command = [sys.executable, "-m", "mlx_lm", "convert", "--hf-path", str(tiny.model), "--mlx-path", str(target)]
        numbers = ["--q-bits", str(bits), "--q-group-size", str(group)]
        done = subprocess.run(
            [*command, "-q", *numbers], env=environment(), capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
        return Tiny(target, tiny.data)
