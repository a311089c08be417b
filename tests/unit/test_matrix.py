"""The matrix of the exactness proofs is data, and can be incomplete."""

import random

from harness_matrix import CASES, LARGE, SMALL, random_case, uncovered


def test_each_value_and_each_important_pair_has_a_case():
    assert list(uncovered()) == []
    assert [case.name for case in CASES.values() if not case.possible] == []
    assert len(CASES) == len(SMALL) + len(LARGE)


def test_a_random_configuration_follows_from_its_seed():
    one, same, other = (random_case("any", random.Random(seed)) for seed in ("a", "a", "b"))
    assert one == same != other
    assert all(random_case("any", random.Random(seed)).possible for seed in range(100))
