"""Values in words: durations, numbers, bars, sparklines, and log text made safe to print.

Standard library only: `stoker status` is budgeted in milliseconds. No function reads a clock or asks the terminal.
"""

import math
import re
import unicodedata
from collections.abc import Sequence
from datetime import UTC, datetime
from itertools import pairwise

DASH = "-"  # stands for "not known" or "does not apply"

_BLOCKS = "▁▂▃▄▅▆▇█"
_ESCAPE = re.compile(
    r"\x1b(?:"
    r"\[[0-?]*[ -/]*[@-~]"  # CSI: colours, cursor movement, clearing
    r"|[\]PX^_].*?(?:\x07|\x1b\\|$)"  # OSC, DCS, SOS, PM, APC: titles, hyperlinks, terminal commands
    r"|[ -/]*[0-~]?"  # two-character escapes, and an escape that was cut off
    r")",
    re.DOTALL,
)
_COLOUR = re.compile(r"\x1b\[[0-9;:]*m")
# Control characters (C0 without tab, DEL, C1), marks that reorder text on the screen, and halves of surrogate pairs.
_UNSAFE = re.compile(r"[\x00-\x08\x0a-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


def clean(text: object, *, colour: bool = False) -> str:
    """Return one line of untrusted text without anything that a terminal would obey.

    Carriage returns are collapsed as a terminal would show them: the last non-empty piece stays. With `colour`,
    colour sequences (and no other escapes) survive and are closed at the end of the line.
    """
    line = str(text).rstrip("\r\n")
    if "\r" in line:
        line = next((piece for piece in reversed(line.split("\r")) if piece.strip()), "")
    if line.isprintable():
        return line
    line = line.replace("\n", " ").expandtabs(8)
    if not colour:
        return _UNSAFE.sub("", _ESCAPE.sub("", line))
    pieces: list[str] = []
    end = 0
    for found in _COLOUR.finditer(line):
        pieces += [_UNSAFE.sub("", _ESCAPE.sub("", line[end : found.start()])), found.group()]
        end = found.end()
    kept = "".join(pieces) + _UNSAFE.sub("", _ESCAPE.sub("", line[end:]))
    return f"{kept}\x1b[0m" if pieces else kept


def shorten(text: str, width: int) -> str:
    """Return `text` in at most `width` columns, its end replaced by an ellipsis where it is longer."""
    if cells(text) <= width:
        return text
    kept, used = [], 0
    for character in text:
        used += cells(character)
        if used > width - 1:
            break
        kept.append(character)
    return "".join(kept) + "…"


def cells(text: str) -> int:
    """Return how many terminal columns `text` takes: wide East Asian characters take two, combining marks none."""
    if text.isascii():
        return len(text)
    return sum(
        0 if unicodedata.combining(character) else 2 if unicodedata.east_asian_width(character) in "WF" else 1
        for character in text
    )


def finite(value: object) -> float | None:
    """Return a finite number, or None for anything else: missing, text, nan (records spell it "nan"), infinite."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value) if math.isfinite(value) else None


def duration(seconds: object) -> str:
    """Return `41s`, `12m 30s`, `2h 14m` or `5d 3h` for seconds: two units, rounded down."""
    number = finite(seconds)
    if number is None:
        return DASH
    if number < 1:
        return "0s" if number <= 0 else f"{number * 1000:.0f}ms"
    whole = int(number)
    for unit, size, smaller, part in (("d", 86400, "h", 3600), ("h", 3600, "m", 60), ("m", 60, "s", 1)):
        if whole >= size:
            rest = whole % size // part
            return f"{whole // size}{unit} {rest}{smaller}" if rest else f"{whole // size}{unit}"
    return f"{whole}s"


def wall(moment: object) -> float | None:
    """Return the seconds since the epoch of an ISO 8601 time (or of a number), None where there is none."""
    if isinstance(moment, str):
        try:
            parsed = datetime.fromisoformat(moment)
        except ValueError:
            return None
        return (parsed if parsed.tzinfo else parsed.replace(tzinfo=UTC)).timestamp()
    return finite(moment)


def clock(moment: object, now: float) -> str:
    """Return a local time, with the date when it is not today: `14:30`, `Feb 13 14:30`, `2025-02-13 14:30`."""
    seconds = wall(moment)
    if seconds is None:
        return DASH
    then, today = datetime.fromtimestamp(seconds).astimezone(), datetime.fromtimestamp(now).astimezone()
    if then.date() == today.date():
        return f"{then:%H:%M}"
    return f"{then:%b %d %H:%M}" if then.year == today.year else f"{then:%Y-%m-%d %H:%M}"


def age(moment: object, now: float) -> str:
    """Return how long ago something was, `-` where that is not known."""
    seconds = wall(moment)
    return DASH if seconds is None else duration(max(0.0, now - seconds))


def count(number: object) -> str:
    """Return a whole number with thousands separators."""
    value = finite(number)
    return DASH if value is None else f"{int(value):,}"


def plural(number: object, noun: str) -> str:
    """Return `1 iteration`, `1,780 iterations`."""
    return f"{count(number)} {noun}" if finite(number) == 1 else f"{count(number)} {noun}s"


def figure(value: object) -> str:
    """Return a measured number with four significant digits; a non-finite one by its name."""
    number = finite(value)
    if number is None:
        return DASH if value is None else clean(value)
    if number and (abs(number) < 0.001 or abs(number) >= 100_000):
        return f"{number:.3g}"
    return f"{number:,.0f}" if abs(number) >= 1000 else f"{number:.4g}"


def percent(part: object) -> str:
    """Return a fraction of one as a percentage, never rounded up to 100%."""
    number = finite(part)
    if number is None:
        return DASH
    return f"{math.floor(number * 1000 + 1e-9) / 10:g}%"


def fraction(done: object, total: object) -> float | None:
    """Return `done / total` within 0 and 1, None where there is no total."""
    part, whole = finite(done), finite(total)
    if part is None or not whole or whole < 0:
        return None
    return min(1.0, max(0.0, part / whole))


def bar(done: float, width: int) -> str:
    """Return a progress bar for a fraction between 0 and 1; it is full only at 1."""
    filled = int(done * width)
    return "█" * filled + "░" * (width - filled)


def sparkline(values: Sequence[object], width: int = 8) -> str:
    """Return the course of the finite `values` in at most `width` blocks (means); empty for fewer than two."""
    numbers = [number for value in values if (number := finite(value)) is not None]
    if len(numbers) < 2:
        return ""
    parts = min(width, len(numbers))
    edges = [len(numbers) * i // parts for i in range(parts + 1)]
    means = [sum(numbers[a:b]) / (b - a) for a, b in pairwise(edges)]
    low, span = min(means), max(means) - min(means)
    if not span:
        return _BLOCKS[0] * parts
    return "".join(_BLOCKS[int((mean - low) / span * (len(_BLOCKS) - 1) + 0.5)] for mean in means)
