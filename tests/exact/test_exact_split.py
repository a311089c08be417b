"""Row groups of any shape (make exact): whatever the batch, they train as the whole batch does."""

import mlx.core as mx
import pytest
from harness_split import Case, differences, trained
from hypothesis import given, settings
from hypothesis import strategies as st

CASES = st.builds(
    Case,
    kind=st.sampled_from(["full", "lora", "dora"]),
    dropout=st.sampled_from([0.0, 0.1, 0.5]),
    accumulation=st.integers(1, 4),
    checkpointed=st.booleans(),
    masked=st.booleans(),
    batch=st.integers(1, 9),
    width=st.integers(4, 70),
    iterations=st.integers(1, 5),
)


@pytest.mark.exact
@pytest.mark.timeout(1800)
@settings(max_examples=150)
@given(case=CASES, micro_batch=st.integers(1, 10))
def test_any_cut_of_any_batch_trains_as_the_whole_one(case, micro_batch):
    """Tolerances as in test_split.py, which says where they come from."""
    mx.disable_compile()
    try:
        whole, split = trained(case, None), trained(case, micro_batch)
    finally:
        mx.enable_compile()

    assert split.tokens == whole.tokens
    assert split.keys == whole.keys
    found = differences(whole, split)
    assert found["losses"] < 2e-6, found
    assert max(found["parameters"], found["optimizer"]) < 1e-5, found
