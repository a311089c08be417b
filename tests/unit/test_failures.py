"""How often training fails here."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stoker.recovery.causes import CAUSES
from stoker.recovery.failures import PRIOR_S, Spell, time_between_failures

HOUR = 3600.0


@pytest.mark.parametrize(
    ("spells", "hours"),
    [
        ([], 24),
        ([Spell(48 * HOUR, 900, None, False)], 72),
        ([Spell(6 * HOUR, 100, "killed", False), Spell(6 * HOUR, 100, "killed", False)], 12),
        ([Spell(24 * HOUR, 100, "killed", True)], 48),  # a drill
        ([Spell(24 * HOUR, 100, "interrupted", False)], 48),
        ([Spell(0.0, 0, "oom", False)] * 5, 24),  # it completed no iteration: nothing was lost
        ([Spell(0.0, 0, "config_error", False)] * 5, 24),
    ],
)
def test_the_prior_is_one_failure_a_day(spells, hours):
    assert time_between_failures(spells) == pytest.approx(hours * HOUR)


SPELLS = st.builds(Spell, st.integers(0, 10**6), st.integers(0, 1000), st.sampled_from([None, *CAUSES]), st.booleans())


@given(st.lists(SPELLS, max_size=200))
def test_no_history_makes_it_nothing_or_endless(spells):
    found = time_between_failures(spells)
    assert PRIOR_S / (1 + len(spells)) <= found <= PRIOR_S + sum(spell.seconds for spell in spells)
