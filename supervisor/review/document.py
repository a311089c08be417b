"""One JSON document on stdout: what every read verb's `--json` prints."""

import json
import math
from typing import Any


def dumps(document: Any, *, indent: int | None = 2) -> str:
    """Return valid JSON in ASCII: numbers that JSON does not know are spelled as text ("nan", "inf", "-inf")."""
    return json.dumps(_spelled(document), indent=indent, allow_nan=False)


def _spelled(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    if isinstance(value, dict):
        return {str(key): _spelled(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_spelled(item) for item in value]
    return value if value is None or isinstance(value, str | int | bool) else str(value)
