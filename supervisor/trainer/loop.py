"""The training loop that stands in for mlx_lm.tuner.trainer.train: the same computation, but it can be stopped and
continued anywhere.

Line by line it follows the original (reviewed.json names the versions): the order of draws from the random
generators, the compiled step, the reports and the saves. What is added happens between iterations.
"""

import time
from pathlib import Path
from typing import Any

import mlx.core as mx
from mlx.utils import tree_flatten
from mlx_lm.tuner.trainer import default_loss, grad_checkpoint, iterate_batches
from mlx_lm.utils import get_total_parameters

from stoker.recovery.checkpoint.manifest import sha256_of
from stoker.supervisor.failpoints import hit
from stoker.supervisor.trainer import adapters, memory, state
from stoker.supervisor.trainer.cadence import Cadence, Cost
from stoker.supervisor.trainer.checkpoint import CheckpointWriter, Place, Snapshot, Watcher
from stoker.supervisor.trainer.console import make_console
from stoker.supervisor.trainer.data import BatchStream, TrackedDataset
from stoker.supervisor.trainer.drill import Drill
from stoker.supervisor.trainer.generators import numpy_state, restore_numpy
from stoker.supervisor.trainer.guards import Guard
from stoker.supervisor.trainer.outcomes import Fault, Stopped
from stoker.supervisor.trainer.run import Run
from stoker.supervisor.trainer.scalars import count, number
from stoker.supervisor.trainer.schedule import slow_down
from stoker.supervisor.trainer.share import check_share
from stoker.supervisor.trainer.snapshot import host_tensors
from stoker.supervisor.trainer.state import Mark, Progress
from stoker.supervisor.trainer.step import Step
from stoker.supervisor.trainer.suspicion import Suspicion
from stoker.supervisor.trainer.validation import validate


class TrainingLoop:
    """One attempt's iterations, from where it resumes to the last one."""

    def __init__(
        self, run: Run, model: Any, optimizer: Any, train_set: Any, val_set: Any, args: Any, callback: Any
    ) -> None:
        self._run, self._model, self._optimizer, self._args = run, model, optimizer, args
        self._val_set, self._callback = val_set, callback
        self._adapter = Path(args.adapter_file)
        if mx.distributed.init().size() > 1:
            raise RuntimeError("this trainer runs one process; start distributed jobs with a trainer row of their own")
        if args.grad_accumulation_steps < 1:
            raise ValueError("grad_accumulation_steps must be at least 1")
        if args.grad_checkpoint:
            grad_checkpoint(model.layers[0])
        self._stream = BatchStream(
            TrackedDataset(train_set),
            args.batch_size,
            iterate_batches,
            max_seq_length=args.max_seq_length,
            comm_group=mx.distributed.init(),
        )
        slow_down(optimizer, run.launch.learning_rate)
        self._progress, self._start_digest = self._restore()
        self._guard = Guard(run.saved.last_finite if run.saved else None)
        self._step = Step(
            model,
            optimizer,
            default_loss,
            args.grad_accumulation_steps,
            run.launch.micro_batch,
            compiling=self._announce_compile,
        )
        launch, saved = run.launch, run.saved
        self._writer = CheckpointWriter(
            Place(launch.checkpoints, launch.staging, launch.keep, launch.min_free),
            run.origin(),
            Watcher(
                check=lambda snapshot: self._guard.check_parameters(snapshot.iteration, snapshot.weights),
                committed=lambda **facts: run.metrics.write("checkpoint", **facts),
                bad=lambda name, problems: run.warn(f"checkpoint {name} was not written as it should: {problems[0]}"),
                finished=self._note_cost,
            ),
        )
        self._drill = Drill(run.launch.drill, run.launch.checkpoints, settle=self._settle)
        self._start = self._progress.iteration
        self._cadence = Cadence(
            launch.rhythm, time.monotonic, start=self._start, known=Cost.from_json(saved.cost if saved else None)
        )
        self._suspicion = Suspicion(launch.suspect, saved.suspect if saved else None)
        self._mark = Mark.of(self._progress, self._stream, self._guard.last_finite)
        self._gradient: Any = None
        self._checked_step = -1
        self._compiled = False  # in this iteration

    def train(self) -> None:
        """All iterations, then the final adapter."""
        self._announce_start()
        if not self._run.launch.allow_partial:
            check_share(self._model, self._run.args)
        self._model.train()
        self._console = make_console(self._args.iters, self._start)
        try:
            with self._console:
                self._beat("train")
                self._run.stop.defer()
                hit("trainer.loop.begin")
                self._stop_if_asked()
                for iteration, batch in zip(range(self._start + 1, self._args.iters + 1), self._stream, strict=False):
                    self._iterate(iteration, batch)
                self._settle()
            self._save_final()
        except BaseException:
            self._settle_quietly()
            raise

    def _restore(self) -> tuple[Progress, str]:
        """Counters and start digest; model, optimizer, data order and generators are put where the checkpoint says."""
        saved = self._run.saved
        if saved is None:
            return Progress(), state.digest(self._parameters())
        state.load_weights(self._model, saved)
        if self._run.launch.weights_only:
            state.warm_optimizer(self._optimizer, saved)
        else:
            state.load_optimizer(self._model, self._optimizer, saved)
        saved.seek(self._stream)
        return saved.progress(), saved.start_digest

    def _iterate(self, iteration: int, batch: tuple[mx.array, mx.array]) -> None:
        args, progress = self._args, self._progress
        began = time.perf_counter()
        if self._val_set and (iteration == 1 or iteration % args.steps_per_eval == 0 or iteration == args.iters):
            self._validate(iteration)
            began = time.perf_counter()
        self._drill.before_step(iteration, self._step.rows(batch[0]), self._model)
        update = iteration % args.grad_accumulation_steps == 0
        self._compiled = False
        loss, tokens, self._gradient = self._step(batch, self._gradient, update)
        progress.losses += loss
        progress.tokens += tokens
        progress.batches += 1
        mx.eval(self._step.state, progress.losses, progress.tokens, self._gradient)
        _clear_cache(args)
        seconds = time.perf_counter() - began
        progress.train_time += seconds
        if not self._compiled:
            self._cadence.iterated(seconds, writing=self._writer.busy)
        value = number(loss)
        self._guard.check_loss(
            iteration, value, lambda: count(tokens), self._stream.examples, self._run.where_examples_are
        )
        self._suspicion.see(iteration, value)
        progress.iteration = iteration
        progress.step += update
        self._console.advance()
        if iteration % args.steps_per_report == 0 or iteration == args.iters:
            self._report(iteration)
        if update:
            self._mark = Mark.of(progress, self._stream, self._guard.last_finite)
        self._between(iteration)

    def _between(self, iteration: int) -> None:
        """What follows an iteration: saves, checkpoints, sign of life, drills, and the question whether to go on."""
        if iteration % self._args.steps_per_save == 0:
            self._save_numbered(iteration)
        if self._cadence.cost is None and self._progress.step:
            self._cadence.expect(self._state_bytes())
        if self._cadence.is_due(iteration) or iteration == self._args.iters:
            self._checkpoint()
        self._writer.poll()
        self._beat("train")
        hit("trainer.iteration.end")
        self._drill.after_iteration(iteration)
        self._stop_if_asked()

    def _validate(self, iteration: int) -> None:
        args = self._args
        planned = iteration == 1 or iteration % args.steps_per_eval == 0
        before = numpy_state()
        self._beat("validate")
        batches = len(self._val_set) // args.batch_size
        total = batches if args.val_batches == -1 else min(batches, args.val_batches)
        began = time.perf_counter()
        try:
            with self._console.validating(total) as advance:
                loss = validate(self._run, self._model, self._val_set, args, iterate_batches, advance)
        except Stopped:
            self._commit_and_stop()
        seconds = time.perf_counter() - began
        self._console.report_val(iteration, loss, seconds)
        self._run.metrics.write("val", iteration=iteration, val_loss=loss, val_time=seconds)
        if self._callback is not None:
            self._callback.on_val_loss_report({"iteration": iteration - 1, "val_loss": loss, "val_time": seconds})
        if (
            not planned
        ):  # it runs only because these iters end here: with more of them, the draws must be as if it hadn't
            self._run.final_numpy = numpy_state()
            restore_numpy(before)
        self._beat("train")

    def _report(self, iteration: int) -> None:
        args, progress = self._args, self._progress
        losses, tokens = number(progress.losses), count(progress.tokens)
        progress.trained_tokens += tokens
        info = {
            "iteration": iteration,
            "train_loss": losses / progress.batches,
            "learning_rate": number(self._optimizer.learning_rate),
            "iterations_per_second": args.steps_per_report / progress.train_time,
            "tokens_per_second": tokens / progress.train_time,
            "trained_tokens": progress.trained_tokens,
            "peak_memory": memory.peak() / 1e9,
        }
        self._console.report_train(info)
        self._run.metrics.write(
            "train",
            **info,
            step=progress.step,
            active_memory=memory.active() / 1e9,
            cache_memory=memory.cached() / 1e9,
            effective_batch=args.batch_size * args.grad_accumulation_steps,
            micro_batch=self._run.launch.micro_batch or args.batch_size,
        )
        if self._callback is not None:
            self._callback.on_train_loss_report(dict(info))
        progress.losses, progress.tokens, progress.batches, progress.train_time = 0, 0, 0, 0.0

    def _save_numbered(self, iteration: int) -> None:
        self._beat("checkpoint")
        parameters = self._checked_parameters()
        copy = adapters.numbered(self._adapter, iteration)
        adapters.save(parameters, self._adapter, copy, min_free=self._run.launch.min_free)
        self._console.report_save(iteration, self._adapter, copy)
        self._run.metrics.write("save", iteration=iteration, path=str(copy))

    def _save_final(self) -> None:
        self._beat("checkpoint")
        parameters = self._checked_parameters()
        hit("adapter.final.before")
        adapters.save(parameters, self._adapter, min_free=self._run.launch.min_free)
        hit("adapter.final.after")
        self._console.report_final(self._adapter)
        last = self._guard.last_finite
        self._run.metrics.write(
            "final",
            iteration=self._progress.iteration,
            adapter=str(self._adapter),
            sha256=sha256_of(self._adapter),
            bytes=self._adapter.stat().st_size,
            changed=state.digest(parameters) != self._start_digest,
            finite=True,
            train_loss=last.train_loss if last else None,
        )

    def _checkpoint(self, *, background: bool = True) -> None:
        """Commit the last completed step, unless it is where this attempt began or was committed already."""
        mark = self._mark
        if mark.iteration == self._start or self._writer.exists(mark.iteration):
            return
        began = time.monotonic()
        self._settle()
        if self._writer.exists(mark.iteration):  # it was the one under way
            return
        self._beat("checkpoint")
        snapshot = Snapshot(
            iteration=mark.iteration,
            step=mark.step,
            weights=host_tensors(self._parameters()),
            optimizer=host_tensors(dict(tree_flatten(self._optimizer.state))),
            state=mark.document(self._start_digest, self._stream.per_epoch)
            | {"cost": self._cadence.measured and self._cadence.measured.as_json(), "suspect": self._suspicion.onset},
            train_loss=mark.last_finite.train_loss if mark.last_finite else None,
        )
        in_background = background and memory.has_room_for(snapshot.bytes)
        self._writer.onset = self._suspicion.onset
        self._writer.begin(snapshot)
        if not in_background:
            self._writer.wait(self._beat_again)
        self._cadence.handed_over(mark.iteration, time.monotonic() - began)
        if not in_background:
            self._writer.poll()

    def _stop_if_asked(self) -> None:
        if self._run.stop.requested:
            self._commit_and_stop()

    def _commit_and_stop(self) -> None:
        self._settle()
        self._checkpoint(background=False)
        raise Stopped

    def _settle(self) -> None:
        self._writer.settle(self._beat_again)

    def _settle_quietly(self) -> None:
        """Let a commit under way end before the process does; the reason it ends for is the one to report."""
        try:
            self._settle()
        except (Fault, OSError) as error:
            self._run.warn(f"the checkpoint that was being written is lost: {error}")

    def _state_bytes(self) -> int:
        """Size of a checkpoint; the optimizer has its state after its first step."""
        arrays = [*self._parameters().values(), *dict(tree_flatten(self._optimizer.state)).values()]
        return sum(array.nbytes for array in arrays)

    def _parameters(self) -> dict[str, mx.array]:
        return dict(tree_flatten(self._model.trainable_parameters()))

    def _checked_parameters(self) -> dict[str, mx.array]:
        """The trainable parameters, after making sure that each number in them is finite."""
        parameters = self._parameters()
        if self._checked_step != self._progress.step:
            self._guard.check_parameters(self._progress.iteration, host_tensors(parameters))
            self._checked_step = self._progress.step
        return parameters

    def _beat(self, phase: str) -> None:
        self._run.heartbeat.beat(phase, self._progress.iteration)

    def _beat_again(self) -> None:
        self._beat("checkpoint")

    def _announce_compile(self) -> None:
        self._compiled = True
        self._beat("compile")
        hit("trainer.compile.before")

    def _note_cost(self, size: int, took: float) -> None:
        """What the checkpoint that has just ended has cost, and what follows from it for the next one."""
        self._cadence.committed(size, took)
        cost, interval = self._cadence.cost, self._cadence.interval()
        self._run.metrics.write(
            "cadence",
            iteration=self._progress.iteration,
            stall_s=self._cadence.stall,
            write_s=took,
            cost_s=cost.seconds if cost else None,
            bytes=size,
            next_s=interval.seconds,
            because=interval.because,
        )

    def _announce_start(self) -> None:
        trainable = sum(value.size for value in self._parameters().values()) / 1e6
        total = get_total_parameters(self._model) / 1e6
        run = self._run
        run.metrics.write(
            "start",
            attempt=run.launch.attempt,
            from_iteration=self._start,
            resume=run.resume,
            label_reasons=run.label_reasons,
            proved=run.proved,
            versions=dict(run.versions),
            device=memory.device_name(),
            trainable=trainable,
            total=total,
            share=100 * trainable / total,
            batches_per_epoch=self._stream.per_epoch,
        )


def _clear_cache(args: Any) -> None:
    """As mlx-lm does from 0.31.2 on; earlier versions kept the cache."""
    threshold = getattr(args, "clear_cache_threshold", None)
    if threshold is not None and memory.cached() > threshold:
        mx.clear_cache()
