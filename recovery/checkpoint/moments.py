"""The optimizer's tensors held against the weights they belong to.

mlx flattens an optimizer's state to `PARAMETER.NAME`: m and v of Adam and AdamW, v of SGD and Muon, exp_avg_sq and its
rows and columns of Adafactor; `step` and `learning_rate` stand beside them (mlx/optimizers/optimizers.py, init_single).
"""

from stoker.recovery.checkpoint.findings import Findings, first_few
from stoker.recovery.checkpoint.safetensors import Tensor

_SAME_SHAPE = {"m", "v"}


def compare(file: str, tensors: tuple[Tensor, ...], weights: tuple[Tensor, ...], found: Findings) -> None:
    """Add what does not fit. A state in which no name is known is passed over: then it is of another kind."""
    shapes = {tensor.name: tensor.shape for tensor in weights}
    parts = {tensor.name: tensor for tensor in tensors if "." in tensor.name}
    owners = {name: name.rpartition(".")[0] for name in parts}
    if not shapes.keys() & set(owners.values()):
        return
    if strange := [name for name, owner in owners.items() if owner not in shapes]:
        found.problems.append(f"{file}: {first_few(strange)} belong to no tensor of the weights")
    if bare := shapes.keys() - set(owners.values()):
        found.problems.append(f"{file}: holds nothing for {first_few(bare)}")
    for name, owner in owners.items():
        shape = parts[name].shape
        if name.rpartition(".")[2] in _SAME_SHAPE and shape != shapes.get(owner, shape):
            found.problems.append(f"{file}: {name} has shape {list(shape)}, its weights have {list(shapes[owner])}")
            return
