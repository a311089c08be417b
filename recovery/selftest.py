"""Does a rule see what its own examples show, and nothing in its counter-examples?"""

from stoker.recovery.evidence import Evidence, ending
from stoker.recovery.rules.load import RuleSet
from stoker.recovery.rules.rule import Example, Rule
from stoker.recovery.scan import scan


def check(rule: Rule, rules: RuleSet) -> str | None:
    """Return what is wrong with the rule among all rules, or None."""
    for number, example in enumerate(rule.examples, 1):
        if not _sees(rule, rules, example):
            return f"example {number} is not matched: {_short(example)}"
    for number, example in enumerate(rule.counter_examples, 1):
        if _sees(rule, rules, example):
            return f"counter-example {number} is matched: {_short(example)}"
    return None


def _sees(rule: Rule, rules: RuleSet, example: Example) -> bool:
    exit_code, signal = ending(example.exit_code, example.signal)
    if rule.role == "noise":
        return any(rule.finds(line) for line in example.log.splitlines())
    seen = scan(Evidence(log=example.log), rules, exit_code, signal)
    if rule.match == "ending":
        return rule.status_fits(exit_code, signal) and (not rule.phase or seen.phase in rule.phase)
    return any(hit.rule.id == rule.id for hit in seen.hits)


def _short(example: Example) -> str:
    text = " / ".join(example.log.split("\n"))
    status = (
        f" [exit {example.exit_code}, signal {example.signal}]"
        if example.exit_code is not None or example.signal
        else ""
    )
    return (text if len(text) < 120 else text[:117] + "...") + status
