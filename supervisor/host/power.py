"""macOS's power settings, as `pmset` prints them."""

import re
from collections.abc import Mapping


def parse_settings(text: str) -> Mapping[str, str]:
    """Return the settings in use from `pmset -g`: `sleep` -> `1`. A remark in parentheses is dropped."""
    rows = (re.match(r"\s+([A-Za-z][\w ]*?)\s+(-?\d+)(?:\s+\(.*\))?\s*$", line) for line in text.splitlines())
    return {row[1].lower(): row[2] for row in rows if row}


def has_battery(text: str) -> bool:
    """Return whether `pmset -g batt` names a battery in the machine (not one of a UPS)."""
    return "InternalBattery" in text


def on_battery(text: str) -> bool:
    """Return whether `pmset -g batt` says that the machine draws from its battery."""
    return "drawing from 'Battery Power'" in text
