"""mlx-lm's validation, made visible and stoppable batch by batch."""

import inspect
from collections.abc import Callable
from typing import Any

from mlx_lm.tuner.trainer import default_loss, evaluate

from stoker.supervisor.failpoints import hit
from stoker.supervisor.trainer.outcomes import Stopped
from stoker.supervisor.trainer.run import Run
from stoker.supervisor.trainer.split import Loss, split_loss

_TELLS_PROGRESS = "progress_callback" in inspect.signature(evaluate).parameters  # since mlx-lm 0.32


def watched_loss(run: Run, phase: str) -> Loss:
    """mlx-lm's loss for `evaluate`: each batch is a sign of life, a place to stop, and split when training is."""
    size = run.launch.micro_batch
    loss = split_loss(default_loss, size) if size else default_loss

    def watched(model: Any, *batch: Any) -> Any:
        hit("trainer.validate.batch")
        run.heartbeat.beat(phase)
        if run.stop.requested:
            raise Stopped
        return loss(model, *batch)

    return watched


def validate(
    run: Run, model: Any, dataset: Any, args: Any, iterate: Callable[..., Any], advance: Callable[[], None]
) -> float:
    """The validation loss as mlx-lm computes it; the model is in training mode again afterwards."""
    progress = {"progress_callback": advance} if _TELLS_PROGRESS else {}
    loss = evaluate(
        model=model,
        dataset=dataset,
        loss=watched_loss(run, "validate"),
        batch_size=args.batch_size,
        num_batches=args.val_batches,
        max_seq_length=args.max_seq_length,
        iterate_batches=iterate,
        **progress,
    )
    model.train()
    return float(loss)
