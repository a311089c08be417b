"""What all parts of the trainer process share: the launch, the sign of life, the metrics, and what they say when it
ends.
"""

import hashlib
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from stoker.supervisor.trainer import labels, machine
from stoker.supervisor.trainer.checkpoint import Origin
from stoker.supervisor.trainer.heartbeat import Heartbeat
from stoker.supervisor.trainer.inputs import Agreement
from stoker.supervisor.trainer.labels import Code
from stoker.supervisor.trainer.launch import Launch
from stoker.supervisor.trainer.machine import Machine
from stoker.supervisor.trainer.metrics import Metrics
from stoker.supervisor.trainer.outcomes import Fault
from stoker.supervisor.trainer.signals import StopRequest
from stoker.supervisor.trainer.state import Saved


@dataclass(slots=True)
class Run:
    """One attempt at work. `args` are mlx-lm's, known once it has read the config."""

    launch: Launch
    heartbeat: Heartbeat
    metrics: Metrics
    stop: StopRequest
    saved: Saved | None
    versions: Mapping[str, str]
    proved: bool
    machine: Machine
    args: Any = None
    agreement: Agreement | None = None
    experts_drop_out: bool = False  # known once the model is made
    final_numpy: Any = field(default=None, repr=False)

    @property
    def resume(self) -> str:
        """How this attempt begins: fresh, exact or warm. Only a label: `launch.weights_only` says what is restored."""
        if self.saved is None:
            return "fresh"
        return "warm" if labels.make_warm(self.label_reasons) else "exact"

    @property
    def label_reasons(self) -> list[str]:
        """Why the result need not be the bytes of an uninterrupted stock run; empty when it must be."""
        launch = self.launch
        found: list[tuple[Code, str]] = []
        if launch.weights_only:
            found.append((Code.WEIGHTS_ONLY, "the optimizer's moments start anew"))
        if self.agreement is not None:
            found += [(Code.INPUTS_CHANGED, difference) for difference in self.agreement.accepted]
        if not self.proved:
            words = f"the training code of mlx-lm {self.versions['mlx_lm']} was not reviewed"
            found.append((Code.UNPROVED_MLX_LM, words))
        if doubt := machine.doubt(self.machine, launch.exactness):
            found.append((Code.UNPROVED_MACHINE, doubt))
        told = {labels.code_of(text) for text in launch.labels}
        if launch.micro_batch is not None and Code.MICRO_BATCH not in told:
            found.append((Code.MICRO_BATCH, f"gradients are summed over groups of {launch.micro_batch} rows"))
        if launch.micro_batch is not None and self.experts_drop_out:
            found.append((Code.MICRO_BATCH, "the dropout masks of expert layers differ from those of whole batches"))
        if launch.learning_rate and Code.LEARNING_RATE not in told:
            found.append((Code.LEARNING_RATE, "multiplied from a step on"))
        return [*(labels.reason(code, words) for code, words in found), *launch.labels]

    def origin(self) -> Origin:
        """What all checkpoints of this attempt have in common."""
        return Origin(
            run_id=self.launch.run_id,
            attempt=self.launch.attempt,
            from_iteration=self.saved.manifest.iteration if self.saved else 0,
            parent=self.saved.manifest.name if self.saved else None,
            fine_tune_type=str(self.args.fine_tune_type),
            config_sha256=hashlib.sha256(self.launch.config.read_bytes()).hexdigest(),
            versions=self.versions,
        )

    def where_examples_are(self) -> str:
        """How a person finds an example by its number."""
        local = Path(self.args.data) / "train.jsonl"
        return f"{local}, numbers are lines" if local.is_file() else f"{self.args.data}, counted from 1"

    def report_fault(self, fault: Fault) -> None:
        """The row and the line that say why a guard stopped the run."""
        last = fault.last_finite
        self.metrics.write(
            "fault",
            cause=fault.cause,
            iteration=fault.iteration,
            what=fault.what,
            last_finite={"iteration": last.iteration, "train_loss": last.train_loss} if last else None,
            **({"needs": fault.needs} if fault.needs else {}),
        )
        sys.stdout.flush()
        print(fault.line, file=sys.stderr, flush=True)

    def report_stop(self) -> None:
        """The row that says that the request to stop was honoured."""
        self.metrics.write("stopped", iteration=self.heartbeat.iteration, signal="SIGTERM")

    def warn(self, text: str) -> None:
        """Something that goes wrong without stopping the run."""
        self.metrics.write("warning", text=text)
        print(f"stoker: warning: {text}", file=sys.stderr, flush=True)
