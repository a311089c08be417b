"""Adjustments: the next smaller value of a field, and what recorded changes make of a configuration."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from stoker.recovery.policy import Adjust
from stoker.recovery.situation import Adjustment, Current

# Fields that the trainer reads from config.yaml; the others are launch options, so that config.yaml stays what a stock
# mlx-lm run of the same meaning would use.
IN_CONFIG = frozenset({"grad_checkpoint", "max_seq_length"})
BY_PERSON = "you"  # `by` of a record that a person made


@dataclass(frozen=True, slots=True)
class Applied:
    """What the next launch uses.

    Attributes:
        config: the whole configuration with the changes in it, for config.yaml.
        changed: only the changed keys of it.
        micro_batch: launch option; None = the whole batch at once.
        learning_rate: launch option: multipliers `{"from_step", "factor", "ramp_steps"}`, ascending in from_step.
    """

    config: dict[str, Any]
    changed: dict[str, Any]
    micro_batch: int | None
    learning_rate: tuple[dict[str, Any], ...]


def propose(change: Adjust, current: Current, *, target: int, reason: str) -> Adjustment | None:
    """The change that a policy asks for, from the value in effect; None when there is nothing left to change.

    `target` is the iteration that the run goes on from: a learning rate changes at its step.
    """
    launch: dict[str, Any] = {}
    if change.field == "learning_rate":
        before, after = _learning_rate(change, current)
        launch = {
            "from_step": target // max(1, current.grad_accumulation_steps),
            "factor": change.multiply,
            "ramp_steps": change.ramp_steps,
        }
    elif change.field == "grad_checkpoint":
        before, after = current.grad_checkpoint, True
    else:
        before, after = _smaller(change, current)
    if after is None or before == after:
        return None
    return Adjustment(change.field, before, after, reason, tuple(change.preserves), change.lossy, launch)


def _smaller(change: Adjust, current: Current) -> tuple[int, int | None]:
    value = current.max_seq_length if change.field == "max_seq_length" else current.micro_batch or current.batch_size
    floor = int(change.floor or 1)
    after = max(floor, value // (change.divide or 2))
    return value, after if after < value else None


def _learning_rate(change: Adjust, current: Current) -> tuple[float, float | None]:
    factor = change.multiply or 1.0
    before = current.lr_factor if current.learning_rate is None else current.learning_rate
    if current.lr_factor * factor < (change.floor or 0.0):
        return before, None
    # Twelve digits: 5e-05 rather than 5.000000000000001e-05 in the record.
    return before, float(f"{before * factor:.12g}")


def apply(
    config: Mapping[str, Any],
    records: Iterable[Adjustment | Mapping[str, Any]],
    starts: Mapping[int, int] | None = None,
) -> Applied:
    """A resolved configuration with recorded changes, oldest first, applied. Pure; `config` is not touched.

    Records are Adjustments or their stored form (`Adjustment.record()`, with the number of the first attempt it is for);
    those marked `in_config` stand in `config` already.
    `starts` maps each attempt to the iteration it started from, the one to be launched included: where one of them went
    back to before a change of the learning rate, the change holds from there on.
    """
    accumulation = int(config.get("grad_accumulation_steps") or 1)
    changed: dict[str, Any] = {}
    micro_batch: int | None = None
    factors: list[dict[str, Any]] = []
    for record in records:
        stored = record.record() if isinstance(record, Adjustment) else record
        name = stored["field"]
        if stored.get("in_config"):
            continue
        if name == "micro_batch":
            micro_batch = int(stored["to"])
        elif name == "learning_rate":
            launch = dict(stored["launch"])
            factors = _with_factor(factors, launch | {"from_step": _from_step(stored, starts or {}, accumulation)})
        elif name in IN_CONFIG:
            changed[name] = stored["to"]
        elif not _made_at_admission(stored, config):
            raise ValueError(f"an adjustment of {name!r} cannot be applied: known are micro_batch, learning_rate, "
                             f"{', '.join(sorted(IN_CONFIG))}")  # fmt: skip
    return Applied({**config, **changed}, changed, micro_batch, tuple(factors))


def _made_at_admission(record: Mapping[str, Any], config: Mapping[str, Any]) -> bool:
    """Was it made when the job was accepted? Then it stands in the configuration, or is no matter of the trainer's."""
    name = str(record["field"])
    return name.startswith("stoker.") or config.get(name) == record["to"]


def eased_from(
    records: Iterable[Mapping[str, Any]], starts: Mapping[int, int], grad_accumulation_steps: int
) -> int | None:
    """The iteration from which recovery lowered the learning rate the last time; None when it never did."""
    rates = [record for record in records if record["field"] == "learning_rate" and record.get("by") != BY_PERSON]
    if not rates:
        return None
    return _from_step(rates[-1], starts, grad_accumulation_steps) * grad_accumulation_steps


def lr_factor(records: Iterable[Mapping[str, Any]]) -> float:
    """The product of recovery's multipliers since a person set the learning rate; 1.0 when there are none."""
    factor = 1.0
    for record in records:
        if record["field"] == "learning_rate":
            factor = 1.0 if record.get("by") == BY_PERSON else factor * float(record["launch"]["factor"])
    return factor


def _from_step(record: Mapping[str, Any], starts: Mapping[int, int], accumulation: int) -> int:
    """The step from which a recorded learning rate holds: a later attempt may have gone back to before it."""
    begun = [start // accumulation for n, start in starts.items() if n >= record.get("attempt", 0)]
    return min([int(record["launch"]["from_step"]), *begun])


def _with_factor(factors: list[dict[str, Any]], new: dict[str, Any]) -> list[dict[str, Any]]:
    """Add a multiplier. The recorded value includes the earlier ones, so none may begin after the new one."""
    start = new["from_step"]
    return [*({**factor, "from_step": min(factor["from_step"], start)} for factor in factors), new]
