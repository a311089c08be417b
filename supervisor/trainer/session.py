"""An attempt from its launch file to its exit code: mlx-lm's own command, with the training loop and the file writes
replaced.
"""

import math
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from stoker.supervisor.failpoints import hit
from stoker.supervisor.trainer.heartbeat import Heartbeat
from stoker.supervisor.trainer.inputs import agree
from stoker.supervisor.trainer.launch import read_launch
from stoker.supervisor.trainer.machine import Machine
from stoker.supervisor.trainer.metrics import Metrics
from stoker.supervisor.trainer.outcomes import EXIT_FINISHED, EXIT_GUARD, EXIT_STOPPED, Fault, Stopped
from stoker.supervisor.trainer.signals import StopRequest


def run_attempt(directory: Path) -> int:
    """Train as attempts/N says.

    Returns 0 when the last iteration was reached and the final adapter is durable, 75 when it was stopped on request
    with all completed steps committed, 70 when a guard stopped it. Everything else is a crash and leaves through its
    traceback.
    """
    launch = read_launch(directory)
    metrics, heartbeat = Metrics(directory / "metrics.jsonl"), Heartbeat(directory / "heartbeat")
    stop = StopRequest(lambda: metrics.write("stopped", iteration=heartbeat.iteration, signal="SIGTERM"))

    # mlx and mlx-lm load here: seconds in which SIGTERM is answered already
    from stoker.supervisor.trainer.memory import device_name
    from stoker.supervisor.trainer.run import Run
    from stoker.supervisor.trainer.state import read_saved
    from stoker.supervisor.trainer.versions import is_proved, versions

    found = versions()
    run = Run(
        launch,
        heartbeat,
        metrics,
        stop,
        saved=None,
        versions=found,
        proved=is_proved(_mlx_lm_folder()),
        machine=Machine.here(device_name(), found),
    )
    try:
        run.saved = read_saved(launch.resume.checkpoint) if launch.resume else None
        _train(run)
    except Fault as fault:
        run.report_fault(fault)
        return EXIT_GUARD
    except Stopped:
        run.report_stop()
        return EXIT_STOPPED
    heartbeat.beat("done")
    return EXIT_FINISHED


def _mlx_lm_folder() -> Path:
    import mlx_lm

    return Path(mlx_lm.__path__[0])


def _train(run: Any) -> None:
    """Call mlx-lm's main function: it reads the config and fills its defaults exactly as the stock command does."""
    from mlx_lm import lora

    replaced = Replacements(run, lora)
    lora.run = replaced.run
    lora.load = replaced.load
    lora.train_model = replaced.train_model
    lora.save_config = replaced.save_config
    lora.train = replaced.train
    lora.evaluate = replaced.evaluate
    lora.evaluate_model = replaced.evaluate_model
    sys.argv = ["mlx_lm.lora", "-c", str(run.launch.config)]
    lora.main()


class Replacements:
    """Functions that stand in for mlx_lm.lora's of the same names; each calls the original where there is one to call."""

    def __init__(self, run: Any, lora: Any) -> None:
        self._run = run
        self._original_run: Callable[..., None] = lora.run
        self._original_load: Callable[..., Any] = lora.load
        self._original_train_model: Callable[..., None] = lora.train_model
        self._original_save_config: Callable[..., None] = lora.save_config
        self._original_evaluate: Callable[..., float] = lora.evaluate
        self._original_evaluate_model: Callable[..., None] = lora.evaluate_model
        self._own_adapter: str | None = None

    def run(self, args: Any) -> None:
        """Freeze or compare the inputs before anything heavy is loaded."""
        run = self._run
        run.args = args
        args.test = bool(args.test) or run.launch.test
        run.agreement = agree(
            run.launch.inputs,
            str(args.model),
            str(args.data),
            run.versions,
            _local_folder,
            accept_changed=run.launch.accept_changed,
        )
        self._original_run(args)

    def load(self, _model: str, *positional: Any, **options: Any) -> Any:
        """Load from the frozen folder, whatever the hub says today."""
        hit("trainer.load.before")
        return self._original_load(self._run.agreement.inputs.model, *positional, **options)

    def train_model(self, args: Any, *positional: Any, **options: Any) -> None:
        """A job's own resume_adapter_file is where it starts from iteration 0; a checkpoint is what it resumes from
        later.
        """
        self._own_adapter = args.resume_adapter_file
        if self._run.saved is not None:
            args.resume_adapter_file = None
        self._original_train_model(args, *positional, **options)

    def save_config(self, config: Mapping[str, Any], path: Path) -> None:
        """Write adapter_config.json as the stock command would, atomically."""
        from stoker.supervisor.trainer import adapters

        adapters.save_config(
            {**config, "resume_adapter_file": self._own_adapter}, Path(path), self._original_save_config
        )

    def train(
        self,
        model: Any,
        optimizer: Any,
        train_dataset: Any,
        val_dataset: Any = None,
        args: Any = None,
        training_callback: Any = None,
    ) -> None:
        """Our loop in place of mlx-lm's."""
        from stoker.supervisor.trainer import memory
        from stoker.supervisor.trainer.loop import TrainingLoop
        from stoker.supervisor.trainer.masks import experts_drop_out

        memory.set_wired_limit()
        self._run.experts_drop_out = experts_drop_out(model)
        TrainingLoop(self._run, model, optimizer, train_dataset, val_dataset, args, training_callback).train()

    def evaluate(self, *positional: Any, **options: Any) -> float:
        """The evaluation of the test set, with a sign of life and a place to stop at each batch."""
        from stoker.supervisor.trainer.validation import watched_loss

        loss = self._original_evaluate(*positional, **options, loss=watched_loss(self._run, "test"))
        self._run.metrics.write("test", loss=loss, ppl=math.exp(loss))
        return loss

    def evaluate_model(self, *positional: Any, **options: Any) -> None:
        """The test runs when the final adapter is durable already, so its failure is only a warning."""
        from stoker.supervisor.trainer.generators import restore_numpy

        if self._run.final_numpy is not None:
            restore_numpy(self._run.final_numpy)
        try:
            self._original_evaluate_model(*positional, **options)
        except Exception as error:  # noqa: BLE001 - whatever it is, the training it follows has succeeded
            self._run.warn(f"the test after training failed: {type(error).__name__}: {error}")


def _local_folder(model: str) -> Path:
    """The folder that mlx-lm would load this model from; a hub id is downloaded as mlx-lm does."""
    from mlx_lm import utils

    return Path(utils._download(model))  # noqa: SLF001 - the public way in would load the model
