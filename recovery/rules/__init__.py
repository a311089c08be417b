"""Rules as data: one YAML file a topic, one row an observation, each with its own examples and counter-examples."""

from stoker.recovery.rules.load import RulesError, RuleSet, load_rules
from stoker.recovery.rules.rule import Example, Rule

__all__ = ["Example", "Rule", "RuleSet", "RulesError", "load_rules"]
