"""`stoker.yaml` in the home folder: settings of the daemon. Read at start; every key has a default."""

from pathlib import Path
from typing import Annotated

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from stoker.supervisor.errors import UsageError

_DAY_S = 86_400


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class DiskSettings(_Strict):
    """Room that is kept free.

    Attributes:
        min_free: GB below which no attempt is started and a run held for want of room stays held.
    """

    min_free: Annotated[float, Field(ge=0)] = 2.0


class NotifySettings(_Strict):
    """What is run when a run is held, failed or completed.

    Attributes:
        command: argv; the event stands on its standard input as one JSON object. Empty: nothing is run.
    """

    command: list[str] = []


class Settings(_Strict):
    """Settings of the daemon.

    Attributes:
        slots: trainers at once.
        inbox: more folders to watch, beside HOME/inbox.
        env: environment of every trainer; the job's own env comes after it.
        stop_grace: seconds between SIGTERM and SIGKILL of a trainer. Minutes on purpose: on macOS a hard kill can leak
            wired GPU memory until the next reboot.
        write_budget: TB a day that checkpoints may write where a job leaves their rhythm open (`every: auto`); solid
            state drives wear out by writing. 0 = no limit.
        records: where one line per ending is written, beside HOME/training_runs.jsonl.
    """

    slots: Annotated[int, Field(ge=1)] = 1
    inbox: list[Path] = []
    env: dict[str, str] = {}
    disk: DiskSettings = DiskSettings()
    notify: NotifySettings = NotifySettings()
    stop_grace: Annotated[float, Field(gt=0)] = 300.0
    write_budget: Annotated[float, Field(ge=0)] = 2.0
    records: Path | None = None

    @property
    def min_free_bytes(self) -> int:
        """`disk.min_free` in bytes."""
        return int(self.disk.min_free * 1e9)

    @property
    def write_per_s(self) -> float | None:
        """The write budget in bytes per second; None = no limit."""
        return self.write_budget * 1e12 / _DAY_S or None


def load_settings(path: Path) -> Settings:
    """Return the settings in `path`; the defaults when there is no such file.

    Raises:
        UsageError: the file is not YAML or a key or value in it is wrong; all mistakes are named.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return Settings()
    try:
        return Settings.model_validate(yaml.safe_load(text) or {})
    except yaml.YAMLError as error:
        raise UsageError(f"cannot read {path}: {error}", hint="correct the file and start again") from error
    except ValidationError as error:
        lines = [f"{'.'.join(map(str, e['loc'])) or 'the file'}: {e['msg']}" for e in error.errors()]
        raise UsageError(f"{path}: " + "; ".join(lines), hint="correct the file and start again") from error
