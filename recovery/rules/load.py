"""Loading rules: the built-in files, a person's own file, and the check that every row of it does what its examples say."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from stoker.recovery.rules.rule import CauseRow, Rule, fits

BUILT_IN = Path(__file__).parent
_CAUSES_FILE = "causes.yaml"
_WORDS_FILE = "words.yaml"


class RulesError(ValueError):
    """A rules file that cannot be used: which file, which row, which example, and why."""


@dataclass(frozen=True)
class RuleSet:
    """All rules in effect, the causes' own rows, and the words without which a line interests none of the built-in rules."""

    rules: tuple[Rule, ...]
    causes: Mapping[str, CauseRow]
    words: tuple[str, ...]
    own: tuple[Rule, ...] = ()  # a person's rules: tried on every line, and preferred to the built-in ones

    @cached_property
    def noise(self) -> tuple[Rule, ...]:
        """Rules that hide lines."""
        return tuple(rule for rule in self.rules if rule.role == "noise")

    @cached_property
    def of_lines(self) -> tuple[Rule, ...]:
        """Rules that look at lines."""
        return tuple(rule for rule in self.rules if rule.match == "line" and rule.role != "noise")

    @cached_property
    def of_exceptions(self) -> tuple[Rule, ...]:
        """Rules that look at Python exceptions."""
        return tuple(rule for rule in self.rules if rule.match == "exception")

    @cached_property
    def of_endings(self) -> tuple[Rule, ...]:
        """Rules that look at exit status only."""
        return tuple(rule for rule in self.rules if rule.match == "ending")

    def interests(self, text: str) -> bool:
        """May any rule that looks at lines have something to say about this one?"""
        lower = text.lower()
        for word in self.words:  # a loop: any() with a generator takes twice as long, and this runs on every line
            if word in lower:
                return True
        return any(rule.match == "line" and fits(rule.any, text) for rule in self.own)

    @cached_property
    def own_ids(self) -> frozenset[str]:
        """The ids of a person's rules."""
        return frozenset(rule.id for rule in self.own)


def load_rules(extra: Path | None = None) -> RuleSet:
    """Return the built-in rules; with `extra`, a person's own rules before them, each one checked with its examples.

    Raises:
        RulesError: a row that does not fit, an id that is taken, an example that fails.
    """
    return _with_extra(extra) if extra is not None else _built_in()


@lru_cache(maxsize=1)
def _built_in() -> RuleSet:
    rules: list[Rule] = []
    for path in sorted(BUILT_IN.glob("*.yaml")):
        if path.name not in {_CAUSES_FILE, _WORDS_FILE}:
            rules += read_rules(path)
    rows = _yaml((BUILT_IN / _CAUSES_FILE).read_bytes())
    words = tuple(_yaml((BUILT_IN / _WORDS_FILE).read_bytes()))
    return RuleSet(tuple(rules), {cause: CauseRow.model_validate(row) for cause, row in rows.items()}, words)


def _with_extra(path: Path) -> RuleSet:
    from stoker.recovery.selftest import check  # the self-test needs the diagnosis, which needs the rules

    base = _built_in()
    own = read_rules(path)
    taken = {rule.id for rule in base.rules}
    seen: set[str] = set()
    for rule in own:
        if rule.id in taken or rule.id in seen:
            raise RulesError(
                f"{path}: rule {rule.id}: another rule has this id; choose one of your own, e.g. my.{rule.id}"
            )
        seen.add(rule.id)
    both = RuleSet((*own, *base.rules), base.causes, base.words, own)
    for rule in own:
        if problem := check(rule, both):
            raise RulesError(f"{path}: rule {rule.id}: {problem}")
    return both


def _yaml(data: bytes) -> Any:
    """Parse YAML with the C parser where PyYAML has it: ten times faster, and the daemon starts with it."""
    return yaml.load(data, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))  # noqa: S506  # both are the safe loaders


def read_rules(path: Path) -> tuple[Rule, ...]:
    """Read one rules file.

    Raises:
        RulesError: naming file, row and what is wrong.
    """
    try:
        rows = _yaml(path.read_bytes())
    except OSError as error:
        raise RulesError(f"{path}: cannot be read: {error}") from error
    except yaml.YAMLError as error:
        raise RulesError(f"{path}: not YAML: {error}") from error
    if not isinstance(rows, list):
        raise RulesError(f"{path}: expected a list of rules, found {type(rows).__name__}")
    return tuple(_rule(path, number, row) for number, row in enumerate(rows, 1))


def _rule(path: Path, number: int, row: Any) -> Rule:
    try:
        return Rule.model_validate(row)
    except ValidationError as error:
        name = row.get("id", f"number {number}") if isinstance(row, dict) else f"number {number}"
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        raise RulesError(f"{path}: rule {name}: {place or 'row'}: {first['msg']}") from error
