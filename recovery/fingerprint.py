"""Is it the same trouble as last time? A short hash of what was seen, without everything that differs each time."""

import hashlib
import re

_PATH = re.compile(r"(?:[\w.~-]*/)+([\w.@+-]*)")
_HEX = re.compile(r"\b0x[0-9a-fA-F]+\b|\b[0-9a-f]{12,}\b|\b[0-9A-Fa-f]{8}-[0-9A-Fa-f-]{20,}\b")
_NUMBER = re.compile(r"[-+]?\d[\d,]*(?:\.\d+)?(?:[eE][-+]?\d+)?")
_SPACE = re.compile(r"\s+")


def normalised(text: str) -> str:
    """Return the text without numbers, addresses, folders, process ids and sizes."""
    text = _PATH.sub(r"\1", text)
    text = _HEX.sub("H", text)
    text = _NUMBER.sub("N", text)
    return _SPACE.sub(" ", text).strip().lower()


def fingerprint(*parts: str) -> str:
    """Return 12 hex digits: equal for the same trouble at another time, in another folder, with other sizes."""
    joined = "\n".join(normalised(part) for part in parts)
    return hashlib.sha256(joined.encode()).hexdigest()[:12]
