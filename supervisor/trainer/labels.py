"""Why the weights of a run need not be the bytes of an uninterrupted stock run: a closed list (DESIGN 2, promise 4).

A reason is text, "code: words", because it is written by the trainer, kept by the daemon and read by people. Standard
library only.
"""

from collections.abc import Iterable
from enum import StrEnum


class Code(StrEnum):
    """All that can be a reason. docs/exactness.md lists them too, with what to do about each."""

    WEIGHTS_ONLY = "weights_only"
    INPUTS_CHANGED = "inputs_changed"
    UNPROVED_MLX_LM = "unproved_mlx_lm"
    UNPROVED_MACHINE = "unproved_machine"
    MICRO_BATCH = "micro_batch"
    LEARNING_RATE = "learning_rate"
    GRAD_CHECKPOINT = "grad_checkpoint"
    MAX_SEQ_LENGTH = "max_seq_length"
    EDITED = "edited"

    @property
    def meaning(self) -> str:
        """What it says, in one sentence."""
        return _MEANINGS[self]


_MEANINGS = {
    Code.WEIGHTS_ONLY: "Only the weights of a checkpoint were restored; the optimizer's moments start anew.",
    Code.INPUTS_CHANGED: "The model, the data or a version changed after the first load, and a person accepted that.",
    Code.UNPROVED_MLX_LM: "The training code of this mlx-lm was not reviewed.",
    Code.UNPROVED_MACHINE: "It was not shown that two stock runs agree on this machine, or they were found to differ.",
    Code.MICRO_BATCH: "Batches are cut into groups of fewer rows, so sums are rounded in another order.",
    Code.LEARNING_RATE: "The learning rate was changed from a step on.",
    Code.GRAD_CHECKPOINT: "Gradient checkpointing was switched on or off after the first attempt.",
    Code.MAX_SEQ_LENGTH: "Sequences are cut at another length than in the first attempt.",
    Code.EDITED: "A person edited the configuration after the first attempt.",
}

# With these an attempt that resumes is called warm. The other reasons are recorded adjustments: the full state is
# restored and goes on exactly, only under another configuration.
WARM = frozenset({Code.WEIGHTS_ONLY, Code.INPUTS_CHANGED, Code.UNPROVED_MLX_LM, Code.UNPROVED_MACHINE})


def reason(code: Code, words: str) -> str:
    """Return a reason as it is written down."""
    return f"{code}: {words}"


def code_of(text: str) -> Code:
    """Return the code of a reason; ValueError: it is none of the list."""
    return Code(text.partition(":")[0])


def make_warm(reasons: Iterable[str]) -> bool:
    """Whether an attempt that resumes for these reasons is called warm."""
    return any(code_of(text) in WARM for text in reasons)
