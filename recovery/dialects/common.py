"""Lines that every mlx-lm version prints the same way, and those of our own trainer."""

import re

from stoker.recovery.dialects.events import Event, Kind
from stoker.recovery.dialects.lines import Line

_TRAINABLE = re.compile(r"Trainable parameters: ([\d.]+)%")
_RESUMED = re.compile(r"^Loading (?:fine-tuned weights|pretrained adapters) from (.+)$")
_TEST = re.compile(r"^Test loss ([^\s,]+), Test ppl")
_WARNING = re.compile(r"^(?:\[WARNING\]|Warning:|WARNING[: ]) *(.+)$")
_DRILL = re.compile(r"^stoker: drill: (\w+) is simulated")
_EXACT: dict[str, Event] = {
    "Loading pretrained model": Event("load_model", 0),
    "Loading datasets": Event("load_data", 0),
    "Training": Event("train", 0),
    "Testing": Event("testing", 0),
}
_NAMED: tuple[tuple[str | tuple[str, ...], re.Pattern[str], Kind], ...] = (
    ("Loading ", _RESUMED, "resumed_from"),
    (("[W", "W"), _WARNING, "warning"),
    ("stoker: drill", _DRILL, "drill"),
)


def parse(line: Line) -> Event | None:
    """Return the event on this line, if it is one of the common ones."""
    text = line.text
    if fixed := _EXACT.get(text):
        return Event(fixed.kind, line.number)
    if "Trainable parameters: " in text and (found := _TRAINABLE.search(text)):
        return Event("trainable", line.number, value=float(found[1]))
    if text.startswith("Test loss") and _TEST.match(text):
        return Event("test", line.number)
    for start, pattern, kind in _NAMED:
        if text.startswith(start) and (found := pattern.match(text)):
            return Event(kind, line.number, found[1])
    return None
