"""What a person changed of a run that has begun, as records beside those of recovery; and the labels of both."""

from collections.abc import Iterable, Mapping
from typing import Any

from stoker.recovery.adjust import BY_PERSON

REASON = "edited by you"
_EVERYTHING = ("effective_batch", "data_order", "iterations", "schedule")
# What a change does not preserve; a field that is not here preserves everything.
_TOUCHES = {
    "iters": {"iterations"},
    "learning_rate": {"schedule"},
    "steps_per_eval": {"data_order"},  # a validation draws from the generator that orders the data
    "val_batches": {"data_order"},
}
# Field -> code of the label (supervisor/trainer/labels.py): with such a change in the middle of a run, no uninterrupted
# stock run has the same result. The other fields touch no weight.
_CODES = {
    "micro_batch": "micro_batch",
    "learning_rate": "learning_rate",
    "grad_checkpoint": "grad_checkpoint",
    "max_seq_length": "max_seq_length",
    "steps_per_eval": "edited",
    "val_batches": "edited",
}
_OWN_CODE = "edited"  # its words name the field


def edit_record(
    field: str, before: Any, after: Any, *, attempt: int, in_config: bool, from_step: int = 0
) -> dict[str, Any]:
    """Return the stored form of one edited field.

    Args:
        field: key as a person writes it.
        before: the value in effect.
        after: the new one.
        attempt: the first one that it is for.
        in_config: the stored configuration has the new value, nothing is left to apply.
        from_step: optimizer steps that are complete when that attempt starts; a learning rate changes there.
    """
    launch: dict[str, Any] = {}
    if field == "learning_rate" and not in_config:
        launch = {"from_step": from_step, "factor": after / before, "ramp_steps": 0}
    return {
        "attempt": attempt,
        "field": field,
        "from": before,
        "to": after,
        "reason": REASON,
        "preserves": [name for name in _EVERYTHING if name not in _TOUCHES.get(field, ())],
        "lossy": field == "max_seq_length",
        "launch": launch,
        "by": BY_PERSON,
        "in_config": in_config,
    }


def with_edit(records: Iterable[Mapping[str, Any]], new: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the records with an edit added.

    An edit of the same field that no attempt has run with is replaced; what comes back to where it was is no change.
    """
    kept: list[dict[str, Any]] = [dict(record) for record in records]
    merged = dict(new)
    for n, old in enumerate(kept):
        if old.get("by") == BY_PERSON and (old["attempt"], old["field"]) == (new["attempt"], new["field"]):
            merged["from"] = old["from"]
            if merged["launch"]:
                merged["launch"] = {**merged["launch"], "factor": merged["to"] / old["from"]}
            del kept[n]
            break
    return kept if merged["from"] == merged["to"] else [*kept, merged]


def keeps_exact(record: Mapping[str, Any]) -> bool:
    """Whether the result is still that of an uninterrupted stock run, as far as this change goes."""
    return record["field"] not in _CODES


def labels(records: Iterable[Mapping[str, Any]], starts: Mapping[int, int]) -> list[str]:
    """Return why the result is not that of an uninterrupted stock run, "code: words", of each change that matters.

    `starts` maps each attempt to the iteration it started from, the one to be launched included.
    """
    found = []
    for record in records:
        code = _CODES.get(record["field"])
        if code is None:
            continue
        begun = [start for n, start in starts.items() if n >= record["attempt"]]
        name = f"{record['field']} " if code == _OWN_CODE else ""
        at = f" at iteration {min(begun)}" if begun else ""
        found.append(f"{code}: {name}{_word(record['from'])} -> {_word(record['to'])}{at}")
    return list(dict.fromkeys(found))


def _word(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return f"{value:g}" if isinstance(value, float) else str(value)
