"""What the values of a file say: not finite, all zero, or the same everywhere although they were not so at the start.

With the base model at hand the rule is exact: a tensor that never varies is held against the model's own, which is read
only then. Without it, only what cannot be right is a problem: norms and biases may begin as constants.
"""

import re
from collections.abc import Sequence

from stoker.recovery.checkpoint.findings import Findings, first_few
from stoker.recovery.checkpoint.reference import Model
from stoker.recovery.checkpoint.safetensors import Tensor
from stoker.recovery.checkpoint.scan import TensorScan, look_at

# Matrices that may be zero for a good reason: LoRA's second factor and biases start there.
ZERO_IS_FINE = re.compile(r"(^|\.)(lora_b(\.\d+)?|bias|biases|scales)$|norm", re.IGNORECASE)

# More lines than this of one kind help nobody.
MOST_NAMED = 5

# Fewer trained values than this may come to be equal by chance.
MANY = 8
# lora_b starts constant, at zero; its values move apart with the first step, but in few values of one sign.
MANY_MOVED = 64


def finite(file: str, scans: Sequence[TensorScan], found: Findings) -> None:
    """Add the tensors that hold nan or an infinity."""
    broken = [seen for seen in scans if seen.non_finite]
    for seen in broken[:MOST_NAMED]:
        found.problems.append(
            f"{file}: {seen.tensor.name} holds {seen.non_finite} of {seen.tensor.elements} values that are nan or inf"
        )
    if len(broken) > MOST_NAMED:
        found.problems.append(f"{file}: {len(broken) - MOST_NAMED} more tensors hold values that are nan or inf")


def varied(file: str, scans: Sequence[TensorScan], model: Model | None, found: Findings) -> None:
    """Add the weights that never vary. Not for an optimizer: its moments are zero until a gradient has arrived."""
    scans = [seen for seen in scans if not seen.non_finite]  # those are named already
    unvaried = [seen for seen in scans if seen.constant and seen.tensor.elements > 1]
    known, lost, magnitudes = _against_model(unvaried, model, found)
    matrices = [seen for seen in scans if len(seen.tensor.shape) >= 2 and seen.tensor.elements > 1]
    if matrices and all(seen.constant for seen in scans) and (lost or not known):
        found.problems.append(f"{file}: every tensor is constant: what a failed GPU leaves behind, not trained weights")
        return
    for zero, words in ((True, "all values are zero"), (False, "all values are the same")):
        if names := [seen.tensor.name for seen in lost if seen.zero is zero]:
            found.problems.append(f"{file}: {first_few(names)}: {words}; in the model they are not")
    if names := [seen.tensor.name for seen in known if seen not in lost]:
        found.notes.append(f"{file}: {first_few(names)} constant, as in the model")
    _by_rule(file, [seen for seen in unvaried if seen not in known], magnitudes, found)


def _against_model(
    unvaried: Sequence[TensorScan], model: Model | None, found: Findings
) -> tuple[list[TensorScan], list[TensorScan], list[str]]:
    """Those that the model has, those of them that are not so in the model, and DoRA magnitudes that were lost."""
    if model is None:
        return [], [], []
    known = [seen for seen in unvaried if seen.tensor.name in model.tensors]
    try:
        lost = [seen for seen in known if _lost(seen, _look(model, seen.tensor.name))]
        return known, lost, [seen.tensor.name for seen in unvaried if _magnitudes_lost(seen, model)]
    except OSError as error:  # the model's volume went away: that is not the checkpoint's fault
        found.notes.append(f"the base model can no longer be read ({error}): values were not compared")
        return [], [], []


def _lost(seen: TensorScan, base: TensorScan) -> bool:
    """Whether the values varied in the model, or are zero now and were not."""
    if seen.zero:
        return not base.zero
    return not base.constant and seen.tensor.elements >= MANY


def _magnitudes_lost(seen: TensorScan, model: Model) -> bool:
    """DoRA's m starts as the lengths of the base weight's rows: zero only where those are."""
    base = f"{seen.tensor.name.rpartition('.')[0]}.weight"
    return (
        _leaf(seen.tensor) == "m"
        and seen.zero
        and base in model.tensors
        and not model.packed(base)
        and not _look(model, base).zero
    )


def _look(model: Model, name: str) -> TensorScan:
    stored = model.tensors[name]
    with stored.file.open("rb") as file:
        return look_at(file, stored.tensor)


def _by_rule(file: str, unvaried: Sequence[TensorScan], magnitudes: Sequence[str], found: Findings) -> None:
    """Judge tensors that the model does not have, or that there is no model for."""
    zeros = [seen.tensor for seen in unvaried if seen.zero and len(seen.tensor.shape) >= 2]
    unexplained = [*(tensor.name for tensor in zeros if not ZERO_IS_FINE.search(tensor.name)), *magnitudes]
    if unexplained:
        more = f" and {len(unexplained) - 1} more" if len(unexplained) > 1 else ""
        found.problems.append(f"{file}: {unexplained[0]}{more}: all values are zero")
    elif zeros:
        found.notes.append(f"{file}: {len(zeros)} matrices are all zero, as they are at the start ({zeros[0].name})")
    enough = {"lora_a": MANY, "lora_b": MANY_MOVED}
    same = [
        seen.tensor.name
        for seen in unvaried
        if not seen.zero and seen.tensor.elements >= enough.get(_leaf(seen.tensor), seen.tensor.elements + 1)
    ]
    if same:
        found.problems.append(f"{file}: {first_few(same)}: all values are the same")


def _leaf(tensor: Tensor) -> str:
    return tensor.name.rpartition(".")[2]


def untrained(file: str, scans: Sequence[TensorScan], steps: int, found: Findings) -> None:
    """Note LoRA factors that no step has moved: every lora_b starts at zero and leaves it with the first update."""
    seconds = [seen for seen in scans if _leaf(seen.tensor) == "lora_b"]
    if seconds and all(seen.zero for seen in seconds):
        found.notes.append(f"{file}: every lora_b is still zero after {steps} steps: nothing has been learnt")
