"""Weights of a full fine-tune held against the model that they began as: names, shapes, types, and which blocks.

What mlx-lm trains (mlx_lm/lora.py, train_model): everything in the topmost `num_layers` blocks; embeddings, the last
norm and the output head stay frozen. A quantized layer cannot be trained in full: mlx has no gradient for it.
"""

from collections.abc import Mapping

from stoker.recovery.checkpoint.findings import Findings, first_few
from stoker.recovery.checkpoint.kinds import block, changed_by_loader, kind
from stoker.recovery.checkpoint.reference import Model
from stoker.recovery.checkpoint.safetensors import FLOATS, Tensor


def compare(file: str, tensors: tuple[Tensor, ...], model: Model, num_layers: int | None, found: Findings) -> None:
    """Add what does not fit; `num_layers` as in the configuration, 0 = all blocks, None = unknown."""
    own = {tensor.name: tensor for tensor in tensors}
    shared = own.keys() & model.tensors.keys()
    if not shared and not {kind(name) for name in own} & {kind(name) for name in model.tensors}:
        found.notes.append(
            f"{file}: none of its tensors has a name of {model.folder}: names, shapes and types were not compared"
        )
        return
    found.compared = max(found.compared, len(shared))
    unknown = own.keys() - shared
    renamed = _renamed(unknown, own, model)
    if renamed:
        found.notes.append(
            f"{file}: {first_few(renamed)} not compared: mlx-lm makes them of other tensors of {model.folder}"
        )
    if strange := unknown - renamed:
        found.problems.append(f"{file}: the model {model.folder} has no {first_few(strange)}")
    differing = {name for name in shared if _differ(own[name], model.tensors[name].tensor, native=model.native)}
    wrong = sorted(differing if model.native else differing - changed_by_loader(differing, shared))
    if wrong:
        more = f" ({len(wrong)} tensors differ)" if len(wrong) > 1 else ""
        is_, should = _form(own[wrong[0]]), _form(model.tensors[wrong[0]].tensor)
        found.problems.append(f"{file}: {wrong[0]} is {is_}, in the model {model.folder} it is {should}{more}")
    if num_layers is not None and (absent := _absent(own, model, num_layers)):
        trained = f"{num_layers} blocks" if num_layers else "all blocks"
        found.problems.append(f"{file}: lacks {first_few(absent)}, which the run trains (num_layers: {trained})")


def _renamed(unknown: set[str], own: Mapping[str, Tensor], model: Model) -> set[str]:
    """Those that the loader may have made of others, as it stacks experts: no block of the model has their kind, and
    their block in the model has tensors of kinds that the checkpoint does not have at all.
    """
    here, there = {kind(name) for name in own}, {kind(name) for name in model.tensors}
    spare = {block(name) for name in model.tensors if kind(name) not in here and not model.packed(name)}
    return {name for name in unknown if kind(name) not in there and block(name) in spare - {None}}


def _differ(own: Tensor, base: Tensor, *, native: bool) -> bool:
    if not native and base.dtype not in FLOATS:
        return False  # packed by another tool; mlx-lm unpacks it
    return (own.dtype, own.shape) != (base.dtype, base.shape)


def _form(tensor: Tensor) -> str:
    return f"{tensor.dtype} {list(tensor.shape)}"


def _absent(own: Mapping[str, Tensor], model: Model, num_layers: int) -> list[str]:
    """Tensors that train in some of the trained blocks and are missing in others.

    A kind that is missing in all of them says nothing: not every tensor of a file is a parameter. Files that mlx did
    not write may hold blocks that mlx-lm does not load.
    """
    prefixes = {place[0] for name in own if (place := block(name))}
    if not model.native or len(prefixes) != 1:
        return []
    places = {name: place for name in model.tensors if (place := block(name)) and place[0] in prefixes}
    blocks = 1 + max((index for _, index in places.values()), default=-1)
    first = blocks - num_layers if num_layers else 0
    kinds = {kind(name) for name in own}
    return [
        name
        for name, (_, index) in places.items()
        if index >= first and name not in own and kind(name) in kinds and not model.packed(name)
    ]
