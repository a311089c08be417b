"""The life of a run: every pair of state and event has one answer."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stoker.supervisor.states import ACTIVE, ENDED, TRANSITIONS, Effect, Event, NotPossibleError, State, advance


@pytest.mark.parametrize("state", State)
@pytest.mark.parametrize("event", Event)
def test_every_pair_is_answered_or_refused_in_words(state, event):
    if (state, event) in TRANSITIONS:
        assert advance(state, event).state in State
    else:
        with pytest.raises(NotPossibleError, match=f"{state} run cannot {event}"):
            advance(state, event)


@given(st.lists(st.sampled_from(Event), max_size=40))
def test_only_a_picked_run_is_ever_launched_and_only_a_person_leaves_an_ended_state(events):
    state = State.QUEUED
    for event in events:
        try:
            step = advance(state, event)
        except NotPossibleError:
            continue
        assert (Effect.LAUNCH in step.effects) == (event is Event.PICK)
        if state in ENDED and step.state is not state:
            assert event in {Event.RETRY, Event.EDIT}
        state = step.state


@pytest.mark.parametrize("state", State)
def test_every_state_can_reach_an_end(state):
    reached, frontier = {state}, [state]
    while frontier:
        here = frontier.pop()
        for (source, _), step in TRANSITIONS.items():
            if source is here and step.state not in reached:
                reached.add(step.state)
                frontier.append(step.state)
    assert reached & ENDED


def test_a_trainer_may_live_only_in_active_states():
    for (source, event), step in TRANSITIONS.items():
        if source in ACTIVE and step.state not in ACTIVE:
            assert event in {
                Event.SUCCEEDED, Event.AGAIN, Event.DELAY, Event.HOLD, Event.FAIL, Event.PAUSED, Event.DROPPED,
            }  # fmt: skip


def test_an_edit_needs_a_run_without_a_trainer_and_moves_only_a_completed_one():
    for state in State:
        if state in ACTIVE:
            assert (state, Event.EDIT) not in TRANSITIONS
            continue
        step = advance(state, Event.EDIT)
        assert step.state is (State.QUEUED if state is State.COMPLETED else state)
        assert step.effects == ()
