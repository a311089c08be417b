"""Any other trainer: `step 120 | loss 1.23`, `{'loss': 1.23, ...}`. Used only where a log has no mlx-lm report."""

import re

from stoker.recovery.dialects.classic import number
from stoker.recovery.dialects.lines import Line
from stoker.recovery.evidence import Report

_NUMBER = r"(-?(?:\d[\d.]*(?:[eE][-+]?\d+)?|nan|NaN|inf))"
_STEP = re.compile(r"\b(?:[Ss]tep|[Ii]ter(?:ation)?|it|global_step)['\"]?\s*[:=#/]?\s*\[?(\d+)")
_LOSS = re.compile(rf"\b(?:train[_ /])?[Ll]oss['\"]?\s*[:=]?\s*{_NUMBER}(?![\w.])")


def parse(line: Line, count: int) -> Report | None:
    """Return the report on this line; `count` (reports so far) numbers the lines of trainers that print no step."""
    text = line.text
    if "oss" not in text or not (loss := _LOSS.search(text)):
        return None
    step = _STEP.search(text)
    if step is None and not text.lstrip().startswith("{"):
        return None
    return Report(int(step[1]) if step else count + 1, number(loss[1]), line=line.number)
