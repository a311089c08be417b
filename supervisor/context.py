"""What every part of the daemon works with."""

from dataclasses import dataclass, field

from stoker.supervisor.clock import Clock
from stoker.supervisor.hooks import Hooks
from stoker.supervisor.paths import Home
from stoker.supervisor.settings import Settings
from stoker.supervisor.store.write import Store
from stoker.supervisor.verified import Verified


@dataclass(frozen=True, slots=True)
class Context:
    """The daemon's surroundings, made once and passed on; tests make their own.

    Attributes:
        boot: name of the current boot.
        host: one word for this machine, for training_runs.jsonl.
    """

    home: Home
    settings: Settings
    clock: Clock
    store: Store
    boot: str
    host: str
    verified: Verified = field(default_factory=Verified)
    hooks: Hooks = field(default_factory=Hooks)
