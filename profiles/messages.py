"""pydantic's errors in plain words: what was expected, what was found, what was probably meant."""

import re
import typing
from typing import Any

from pydantic import BaseModel
from pydantic_core import ErrorDetails

from stoker.profiles.problem import nearest, shown

_EXPECTED = {
    "float_type": "a number",
    "bool_type": "true or false",
    "string_type": "text",
    "list_type": "a list such as [a, b]",
    "tuple_type": "a list such as [a, b]",
    "dict_type": "a mapping of keys and values",
    "model_type": "a mapping of keys and values",
    "finite_number": "a finite number",
    "too_short": "at least one item",
    "string_too_long": "shorter text",
}
_LIMITS = {
    "greater_than_equal": ("ge", "{} or more"),
    "greater_than": ("gt", "a number greater than {}"),
    "less_than_equal": ("le", "{} or less"),
    "less_than": ("lt", "a number less than {}"),
}


def dotted(path: tuple[str | int, ...]) -> str:
    """Return `stoker.drill[2].at`."""
    text = ""
    for part in path:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else part
    return text if len(text) <= 80 else f"{text[:77]}..."


def explain(error: ErrorDetails, model: type[BaseModel]) -> tuple[str, str | None]:
    """Return what was expected, without the key's name, and the nearest valid key or value."""
    context, value, close = error.get("ctx", {}), error["input"], None
    match error["type"]:
        case "value_error":
            message = str(context["error"])
        case "missing":
            message = f"{error['loc'][-1]} is missing"
        case "extra_forbidden":
            known = fields_at(model, error["loc"][:-1])
            close = nearest(str(error["loc"][-1]), known)
            message = "unknown key" if close else f"unknown key; known here: {', '.join(known)}"
        case "literal_error":
            choices = re.findall(r"'([^']*)'", context["expected"])
            close = nearest(value, choices) if isinstance(value, str) else None
            message = f"expected one of {', '.join(choices)}, got {shown(value)}"
        case "int_type" | "int_from_float":
            message = f"expected a whole number, got {shown(value)}{_whole(value)}"
        case kind if kind in _LIMITS:
            key, words = _LIMITS[kind]
            message = f"expected {words.format(context[key])}, got {shown(value)}"
        case kind if kind in _EXPECTED:
            message = f"expected {_EXPECTED[kind]}, got {shown(value)}{_quotes(kind, value)}"
        case _:
            message = error["msg"]
    return message, close


def fields_at(model: type[BaseModel], path: tuple[str | int, ...]) -> list[str]:
    """Return the keys that are valid inside the mapping at `path`."""
    for part in path:
        if isinstance(part, str) and part in model.model_fields:
            model = _model_in(model.model_fields[part].annotation) or model
    return list(model.model_fields)


def _model_in(annotation: Any) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next((found for part in typing.get_args(annotation) if (found := _model_in(part))), None)


def _whole(value: Any) -> str:
    if isinstance(value, float) and value.is_integer() and abs(value) < 1e15:
        return f": write {int(value)}"
    if isinstance(value, str) and value.strip().lstrip("+-").isdecimal() and len(value) < 20:
        return f": write {value.strip()} without quotes"
    return ""


def _quotes(kind: str, value: Any) -> str:
    if kind == "string_type" and isinstance(value, bool | int | float):
        return " (YAML reads bare yes, no, on, off and numbers so): put it in quotes"
    if kind == "float_type" and isinstance(value, str):
        return ": is it in quotes, or misspelt?"
    return ""
