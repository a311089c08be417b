"""Single YAML values, read and written as mlx-lm's loader has them: PyYAML's rules, plus `1e-5` being a number."""

import re
from collections.abc import Mapping
from typing import Any

import yaml
from yaml.constructor import SafeConstructor
from yaml.resolver import Resolver

TAG = "tag:yaml.org,2002:"
_LONGEST_NUMBER = 128  # characters; a longer plain scalar is text (a bignum of a megabyte would stop the daemon)
_UNSAFE = re.compile("[\x00\ud800-\udfff]")  # can be written as escapes; no file name or file can hold them
# mlx_lm/lora.py teaches PyYAML's loader that `1e-5` is a float; the expression is mlx-lm's.
_FLOAT = re.compile(
    r"""^(?:
     [-+]?(?:[0-9][0-9_]*)\.[0-9_]*(?:[eE][-+]?[0-9]+)?
    |[-+]?(?:[0-9][0-9_]*)(?:[eE][-+]?[0-9]+)
    |\.[0-9_]+(?:[eE][-+][0-9]+)?
    |[-+]?[0-9][0-9_]*(?::[0-5]?[0-9])+\.[0-9_]*
    |[-+]?\.(?:inf|Inf|INF)
    |\.(?:nan|NaN|NAN))$""",
    re.VERBOSE,
)


class ScalarError(ValueError):
    """A value that cannot be read; the message says why."""


class _Scalars(Resolver):
    """PyYAML's implicit types and mlx-lm's floats."""


class _Dumper(yaml.SafeDumper):
    """Quotes the text `1e-5`, which PyYAML alone would write bare, and writes no aliases."""

    def ignore_aliases(self, data: Any) -> bool:  # noqa: ARG002 - the signature is PyYAML's
        return True


for _class in (_Scalars, _Dumper):
    _class.add_implicit_resolver(f"{TAG}float", _FLOAT, list("-+0123456789."))

_resolver: Any = _Scalars()
_constructor = SafeConstructor()


def dump(value: Mapping[str, Any]) -> str:
    """Return YAML text that both PyYAML and mlx-lm's loader read back as `value`, order kept."""
    return str(yaml.dump(dict(value), Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=10_000))


def read_scalar(text: str, tag: str | None, implicit: tuple[bool, bool]) -> Any:
    """Return the value of one scalar: text, a number, a truth value or None.

    Args:
        text: as PyYAML's events carry it, quotes and escapes undone.
        tag: as written; None = not written.
        implicit: PyYAML's pair: may the type be guessed from the text (it stands bare), or is it text (in quotes)?

    Raises:
        ScalarError: another tag, or text that does not fit its tag.
    """
    if _UNSAFE.search(text):
        raise ScalarError("the text holds an escape for a character that no file can hold (NUL, surrogate)")
    if tag is None and implicit[0] and len(text) <= _LONGEST_NUMBER:
        kind = str(_resolver.resolve(yaml.ScalarNode, text, implicit)).removeprefix(TAG)
        if kind not in {"int", "float", "bool", "null"}:
            return text  # a bare date stays text, as JSON would have it
    elif tag in {None, "!", f"{TAG}str"}:
        return text
    else:
        kind = str(tag).removeprefix(TAG)
        if kind not in {"int", "float", "bool", "null"} or len(text) > _LONGEST_NUMBER:
            raise ScalarError(f"the tag {tag_name(str(tag))} is not allowed in a job file: write plain values")
    node = yaml.ScalarNode(TAG + kind, text)
    try:
        return _constructor.yaml_constructors[TAG + kind](_constructor, node)
    except (ValueError, KeyError, IndexError, OverflowError) as error:
        raise ScalarError(f"{text[:60]} cannot be read as {kind}") from error


def tag_name(tag: str) -> str:
    """Return a tag as a person writes it, `!!int`, shortened."""
    return (f"!!{tag.removeprefix(TAG)}" if tag.startswith(TAG) else tag)[:60]
