"""Every row of every rules file against its own examples; and a person's rules file."""

import pytest

from stoker.recovery.causes import CAUSES
from stoker.recovery.diagnose import diagnose
from stoker.recovery.evidence import Evidence
from stoker.recovery.rules import RulesError, load_rules
from stoker.recovery.selftest import check

RULES = load_rules()


@pytest.mark.parametrize("rule", RULES.rules, ids=lambda rule: rule.id)
def test_a_rule_matches_its_examples_and_not_its_counter_examples(rule):
    assert check(rule, RULES) is None


def test_ids_are_unique():
    ids = [rule.id for rule in RULES.rules]
    assert len(set(ids)) == len(ids)


def test_every_cause_has_advice_and_says_whether_to_try_again():
    assert set(RULES.causes) == set(CAUSES)
    assert all(row.advice for row in RULES.causes.values())


# A captured cause stands in the line itself, and a fallback gives way to others.
DECIDING = [
    rule
    for rule in RULES.rules
    if rule.role == "root"
    and rule.match != "ending"
    and rule.cause not in {"captured", "unknown"}
    and not rule.fallback
]


@pytest.mark.parametrize("rule", DECIDING, ids=lambda rule: rule.id)
def test_an_example_alone_is_diagnosed_as_the_rules_cause(rule):
    for example in rule.examples:
        found = diagnose(Evidence(log=example.log, exit_code=1), RULES)
        assert found.cause == rule.cause, (example.log, found.findings[:2])


OWN = """
- id: my.licence
  cause: config_error
  confidence: 0.9
  advice: "Renew the licence {key}."
  any: 'licence (?P<key>\\S+) has run out'
  examples: ["FATAL: licence A-17 has run out"]
  counter_examples: ["licence A-17 is valid"]
"""


def own(tmp_path, text):
    path = tmp_path / "my-rules.yaml"
    path.write_text(text)
    return path


def test_a_persons_rules_are_used_and_their_groups_fill_the_advice(tmp_path):
    rules = load_rules(own(tmp_path, OWN))
    found = diagnose(Evidence(log="starting\nFATAL: licence B-2 has run out\n", exit_code=3), rules)
    assert (found.cause, found.advice, found.findings[0].line) == ("config_error", "Renew the licence B-2.", 2)


def test_a_persons_rule_is_preferred_on_the_same_line(tmp_path):
    text = OWN.replace("licence (?P<key>\\S+) has run out", "Unable to allocate (?P<key>\\d+) bytes").replace(
        '"FATAL: licence A-17 has run out"', '"[malloc] Unable to allocate 16 bytes."'
    )
    rules = load_rules(own(tmp_path, text))
    log = "RuntimeError: [malloc] Unable to allocate 16 bytes.\n"
    assert diagnose(Evidence(log=log, exit_code=1), rules).cause == "config_error"
    assert diagnose(Evidence(log=log, exit_code=1)).cause == "oom"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (
            OWN.replace("FATAL: licence A-17 has run out", "all is well"),
            "rule my.licence: example 1 is not matched: all is well",
        ),
        (OWN.replace("is valid", "has run out"), "counter-example 1 is matched: licence A-17 has run out"),
        (OWN.replace("my.licence", "memory.malloc"), "another rule has this id"),
        (OWN.replace("config_error", "bad_luck"), "rule my.licence: cause"),
        (OWN.replace("has run out'", "(has run out'"), "not a regular expression"),
        (OWN.replace("confidence: 0.9", "confidence: 9"), "rule my.licence: confidence"),
        (OWN.replace("confidence: 0.9", "likelihood: 0.9"), "rule my.licence: likelihood"),
        (OWN + OWN, "another rule has this id"),
        ("a: 1", "expected a list of rules, found dict"),
        ("- [", "not YAML"),
        (OWN.replace('  examples: ["FATAL: licence A-17 has run out"]\n', ""), "rule my.licence: examples"),
    ],
)
def test_a_persons_rules_file_is_refused_with_row_and_example(tmp_path, text, says):
    path = own(tmp_path, text)
    with pytest.raises(RulesError) as refused:
        load_rules(path)
    assert str(refused.value).startswith(f"{path}: ")
    assert says in str(refused.value)


def test_a_missing_rules_file_is_named(tmp_path):
    with pytest.raises(RulesError, match="cannot be read"):
        load_rules(tmp_path / "none.yaml")
