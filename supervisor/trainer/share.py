"""The share of the parameters that is trained: the trap of mlx-lm's default of 16 layers."""

from typing import Any

from mlx.utils import tree_flatten

from stoker.supervisor.trainer.outcomes import Fault

_EXPECTED = 0.9  # of the layers' parameters; half of the layers would be half of them


def check_share(model: Any, args: Any) -> None:
    """Stop a full fine-tune that trains far less than the model's layers hold, before its first step.

    mlx-lm's full fine-tuning leaves the embeddings frozen, so what to expect is the share of all layers, not 100 %.
    """
    if args.fine_tune_type != "full":
        return
    trained = _parameters(model.trainable_parameters())
    layers = sum(_parameters(layer.parameters()) for layer in model.layers)
    if trained >= _EXPECTED * layers:
        return
    raise Fault(
        "top_layers_only",
        f"{100 * trained / layers:.1f}% of the parameters in the model's {len(model.layers)} layers are trained",
        advice=(
            f"num_layers is {args.num_layers}: leave it out, or set it to {len(model.layers)}. To train the top layers "
            "on purpose, write stoker: {preflight: {allow: [num-layers]}}"
        ),
    )


def _parameters(tree: Any) -> int:
    return sum(value.size for _, value in tree_flatten(tree))
