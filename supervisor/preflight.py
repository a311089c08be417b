"""A job against this machine: everything that can be known to go wrong before a trainer is started, in one verdict.

`appraise` is the whole way from the bytes of a job file; admission and `stoker check` both go it.
"""

import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from stoker.profiles.estimate import DiskNeed, disk_need
from stoker.profiles.facts import NO_DEFAULTS, ModelFacts, TrainerDefaults
from stoker.profiles.job import Job, Problem, load_job, peek
from stoker.profiles.resolve import Resolved, resolve
from stoker.profiles.schema import OVERRIDABLE
from stoker.profiles.yaml_positions import Document, parse
from stoker.supervisor import machine_checks
from stoker.supervisor.checks import Check
from stoker.supervisor.probe import ProbeError, trainer_defaults

__all__ = ["Appraisal", "Check", "Surroundings", "appraise", "preflight"]


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What a job is appraised against.

    Attributes:
        cache_dir: where answers of interpreters are kept.
        checkpoints_dir: where checkpoints of the run will be; need not exist yet.
        adapter_path: where the final adapter goes when the job does not say.
        min_free: bytes that must stay free on every volume.
        python: the interpreter of jobs that name none.
        user_home: what `~` means.
        environment: for PATH and the place of the Hugging Face cache.
    """

    cache_dir: Path
    checkpoints_dir: Path
    adapter_path: Path
    min_free: int
    python: Path
    user_home: Path
    environment: Mapping[str, str]

    @classmethod
    def of(cls, home_dir: Path, run_dir: Path, *, min_free: int = 0) -> "Surroundings":
        """Return this process's own, for a run in `run_dir` of Stoker's home folder `home_dir`."""
        return cls(
            cache_dir=home_dir / "cache",
            checkpoints_dir=run_dir / "checkpoints",
            adapter_path=run_dir / "adapter",
            min_free=min_free,
            python=Path(sys.executable),
            user_home=Path.home(),
            environment=os.environ,
        )


@dataclass(frozen=True, slots=True)
class Appraisal:
    """One verdict on a job file.

    Attributes:
        job: None when the text is wrong or its interpreter cannot train.
        problems: all errors and warnings, of the text and of the checks, by place.
        checks: against this machine.
        resolved: the complete configuration; there whenever `job` is.
        defaults: of the interpreter that trains; empty when it could not be asked.
        model: None when it is not here or cannot be read.
        need: room on disk; None when that is not known.
    """

    job: Job | None
    problems: tuple[Problem, ...]
    checks: tuple[Check, ...] = ()
    resolved: Resolved | None = None
    defaults: TrainerDefaults = NO_DEFAULTS
    model: ModelFacts | None = None
    need: DiskNeed | None = None

    @property
    def ok(self) -> bool:
        """Whether the job can be accepted."""
        return self.job is not None and not self.errors

    @property
    def errors(self) -> tuple[Problem, ...]:
        """What stands in the way."""
        return tuple(problem for problem in self.problems if problem.severity == "error")

    @property
    def warnings(self) -> tuple[Problem, ...]:
        """What is odd, but stands in nobody's way."""
        return tuple(problem for problem in self.problems if problem.severity == "warning")


def appraise(data: bytes, *, file: str, base_dir: Path | None, around: Surroundings) -> Appraisal:
    """Return the verdict on a job file; nothing about the file, or what it names, raises.

    Args:
        data: the file's bytes.
        file: its name, for messages and for the run's default name.
        base_dir: where relative paths start; None for a file dropped into an inbox.
        around: the machine.
    """
    first = peek(data, base_dir=base_dir, home=around.user_home)
    python = Path(first.python) if first.python else around.python
    defaults, refused = replace(NO_DEFAULTS, python=str(python)), None
    if first.needs_interpreter:
        try:
            defaults = trainer_defaults(python, around.cache_dir)
        except ProbeError as error:
            refused = Check("interpreter", "fail", error.message, error.hint, ("stoker", "python"))
    job, problems = load_job(
        data, file=file, base_dir=base_dir, defaults=defaults, home=around.user_home, exists=os.path.exists
    )
    if refused is not None:
        found = _problem(parse(data), file, refused)
        return Appraisal(None, _by_place(problems, (found,)), (refused,), defaults=defaults)
    if job is None:
        return Appraisal(None, problems, defaults=defaults)
    model, about_model = machine_checks.check_model(job, around.environment, around.user_home)
    resolved = resolve(job, defaults, model, adapter_path=str(around.adapter_path))
    need = disk_need(job, resolved, model)
    if need is not None:
        resolved, need = machine_checks.fit_checkpoints(job, resolved, need, around.checkpoints_dir, around.min_free)
    checks = preflight(job, resolved, defaults, model, around, need, about_model)
    found_here = tuple(_problem(job.document, file, check) for check in checks if check.verdict in {"fail", "warn"})
    return Appraisal(job, _by_place(problems, found_here), checks, resolved, defaults, model, need)


def preflight(
    job: Job,
    resolved: Resolved,
    defaults: TrainerDefaults,
    model: ModelFacts | None,
    around: Surroundings,
    need: DiskNeed | None,
    about_model: tuple[Check, ...] = (),
) -> tuple[Check, ...]:
    """Return all checks of a valid job, the overridden ones marked; `about_model` was found when the model was read."""
    adapter = Path(str(resolved.config.get("adapter_path", around.adapter_path)))
    checks = [
        *machine_checks.check_interpreter(job, defaults),
        *about_model,
        *machine_checks.check_data_source(job, resolved),
        *machine_checks.check_quantized(resolved, model),
        *machine_checks.check_layers(resolved, model),
        *machine_checks.check_reports(resolved, defaults),
        *machine_checks.check_files(job, resolved),
        *machine_checks.check_command(job, around.environment),
        *machine_checks.check_adapter(resolved),
        *(machine_checks.check_disk(job, need, around.checkpoints_dir, adapter, around.min_free) if need else ()),
    ]
    allowed = {name for name in job.stoker.preflight.allow if name in OVERRIDABLE}
    return tuple(
        replace(check, verdict="overridden") if check.verdict == "fail" and check.name in allowed else check
        for check in checks
    )


def _problem(document: Document, file: str, check: Check) -> Problem:
    """Return a check that failed or warned as a problem of the job file, at the key that it is about."""
    message = f"{check.name}: {check.detail}" + (f"; {check.fix}" if check.fix else "")
    if check.name in OVERRIDABLE and check.verdict == "fail":
        message += f" (if it is on purpose: stoker: {{preflight: {{allow: [{check.name}]}}}})"
    mark = document.value_mark(check.key)
    return Problem(file, mark.line, mark.column, message, None, "error" if check.verdict == "fail" else "warning")


def _by_place(*groups: tuple[Problem, ...]) -> tuple[Problem, ...]:
    return tuple(sorted((p for group in groups for p in group), key=lambda p: (p.line, p.column)))
