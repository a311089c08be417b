"""LoRA and DoRA factors held against each other, the configuration and the base model.

Shapes as mlx_lm/tuner/lora.py and dora.py make them, for a base weight of (outputs, inputs) and rank r:
    Linear      lora_a (inputs, r), lora_b (r, outputs), m (outputs,)
    Embedding   lora_a (entries, r), lora_b (r, width), m (entries,), for a base weight of (entries, width)
    SwitchLinear (experts)  lora_a (experts, r, inputs), lora_b (experts, outputs, r), for (experts, outputs, inputs)
What has other shapes (layers with a LoRA of their own) is passed over.
"""

import re
from collections import defaultdict
from collections.abc import Mapping, Sequence

from stoker.recovery.checkpoint.findings import Findings, first_few
from stoker.recovery.checkpoint.kinds import changed_by_loader, kind
from stoker.recovery.checkpoint.origin import Origin
from stoker.recovery.checkpoint.reference import Model
from stoker.recovery.checkpoint.safetensors import FLOATS, Tensor

_LEAVES = ("lora_a", "lora_b", "m")
_EMBEDDING = re.compile(r"emb|(^|\.)w[tp]e$", re.IGNORECASE)  # every name that mlx-lm's models give an embedding
_STACKED = re.compile(r"switch|expert")  # made by mlx-lm's loader out of single experts

Factors = Mapping[str, Mapping[str, Tensor]]  # module -> lora_a, lora_b, m -> tensor


def compare(file: str, tensors: tuple[Tensor, ...], method: str | None, origin: Origin, found: Findings) -> None:
    """Add what does not fit; `method` is lora or dora, None = nothing says it."""
    modules: dict[str, dict[str, Tensor]] = defaultdict(dict)
    for tensor in tensors:
        module, _, leaf = tensor.name.rpartition(".")
        if leaf in _LEAVES:
            modules[module][leaf] = tensor
    _complete(file, modules, method, found)
    _ranks(file, modules, origin, found)
    _types(file, [part for parts in modules.values() for leaf, part in parts.items() if leaf != "m"], found)
    if origin.model is not None and modules:
        _against_model(file, modules, origin.model, found)


def _complete(file: str, modules: Factors, method: str | None, found: Findings) -> None:
    """Both factors of each layer, and the magnitudes that make it a DoRA."""
    wanted = {"lora_a", "lora_b", *(["m"] if method == "dora" else [])}
    missing = [f"{module}.{leaf}" for module, parts in modules.items() for leaf in wanted - parts.keys()]
    if missing:
        found.problems.append(f"{file}: lacks {first_few(missing)}")
    extra = [parts["m"].name for parts in modules.values() if "m" in parts and method == "lora"]
    if extra:
        found.problems.append(f"{file}: {first_few(extra)} belong to DoRA, the fine_tune_type is lora")


def _types(file: str, tensors: Sequence[Tensor], found: Findings) -> None:
    if numbers := [tensor.name for tensor in tensors if tensor.dtype not in FLOATS]:
        found.problems.append(f"{file}: {first_few(numbers)} not of a floating-point type")
    elif others := [tensor.name for tensor in tensors if tensor.dtype != "F32"]:
        found.notes.append(f"{file}: {first_few(others)} not of type F32, as mlx-lm makes LoRA factors")


def _ranks(file: str, modules: Factors, origin: Origin, found: Findings) -> None:
    for module, parts in modules.items():
        ranks = _rank_of_each(parts)
        wrong = [name for name, rank in ranks.items() if origin.rank is not None and rank != origin.rank]
        if wrong:
            shape = next(list(tensor.shape) for tensor in parts.values() if tensor.name == wrong[0])
            found.problems.append(f"{file}: {wrong[0]} has shape {shape}, {origin.source} says rank {origin.rank}")
            return  # once is enough: the others have the same cause
        if len(set(ranks.values())) > 1:
            shapes = " and ".join(str(list(parts[leaf].shape)) for leaf in ("lora_a", "lora_b"))
            found.problems.append(f"{file}: {module}.lora_a and lora_b do not belong together: shapes {shapes}")
            return


def _rank_of_each(parts: Mapping[str, Tensor]) -> dict[str, int]:
    """Name -> rank, where the shape tells."""
    experts = any(len(tensor.shape) == 3 for tensor in parts.values())
    places = {("lora_a", 3): 1, ("lora_b", 3): 2}
    if not experts:  # beside a lora_b of three dimensions, a flat lora_a is (experts * r, inputs), of older versions
        places = {("lora_a", 2): 1, ("lora_b", 2): 0}
    return {
        tensor.name: tensor.shape[places[leaf, len(tensor.shape)]]
        for leaf, tensor in parts.items()
        if (leaf, len(tensor.shape)) in places
    }


def _against_model(file: str, modules: Factors, model: Model, found: Findings) -> None:
    known = {module for module in modules if f"{module}.weight" in model.tensors}
    kinds = {kind(name) for name in model.tensors}
    if not any(kind(f"{module}.weight") in kinds for module in modules):
        found.notes.append(f"{file}: none of its layers has a name of {model.folder}: shapes were not compared")
        return
    found.compared = max(found.compared, sum(len(modules[module]) for module in known))
    unknown = [module for module in modules if module not in known]
    renamed = [
        module
        for module in unknown
        if kind(f"{module}.weight") not in kinds and (not model.native or _STACKED.search(module))
    ]
    if renamed:
        found.notes.append(
            f"{file}: {first_few(renamed)} not compared: mlx-lm makes them of other tensors of {model.folder}"
        )
    if strange := set(unknown) - set(renamed):
        found.problems.append(
            f"{file}: the model {model.folder} has no {first_few([f'{name}.weight' for name in strange])}"
        )
    misfits = {module for module in known if not _fits(module, modules[module], model)}
    wrong = sorted(misfits if model.native else misfits - changed_by_loader(misfits, known))
    if wrong:
        shapes = ", ".join(f"{leaf} {list(part.shape)}" for leaf, part in sorted(modules[wrong[0]].items()))
        base = model.tensors[f"{wrong[0]}.weight"].tensor.shape
        columns = model.columns(wrong[0])
        more = f" ({len(wrong)} layers differ)" if len(wrong) > 1 else ""
        found.problems.append(
            f"{file}: {wrong[0]} does not fit: {shapes}, its weight in the model {model.folder} is "
            f"{[*base[:-1], columns]}{more}"
        )


def _fits(module: str, parts: Mapping[str, Tensor], model: Model) -> bool:
    base = model.tensors[f"{module}.weight"].tensor.shape
    columns = model.columns(module)
    shapes = {leaf: tensor.shape for leaf, tensor in parts.items()}
    if len(base) == 2:
        linear = _agree(shapes, {"lora_a": (columns, None), "lora_b": (None, base[0]), "m": (base[0],)})
        entries = {"lora_a": (base[0], None), "lora_b": (None, columns), "m": (base[0],)}
        return linear or (_EMBEDDING.search(module) is not None and _agree(shapes, entries))
    if len(base) == 3:
        experts, outputs, _ = base
        flat = _agree(shapes, {"lora_a": (None, columns), "lora_b": (experts, outputs, None)})
        return flat or _agree(shapes, {"lora_a": (experts, None, columns), "lora_b": (experts, outputs, None)})
    return True


def _agree(shapes: Mapping[str, tuple[int, ...]], expected: Mapping[str, tuple[int | None, ...]]) -> bool:
    """Whether each shape is the expected one; None in an expected shape stands for any length."""
    return all(
        len(shape) == len(expected[leaf])
        and all(want is None or side == want for side, want in zip(shape, expected[leaf], strict=True))
        for leaf, shape in shapes.items()
        if leaf in expected
    )
