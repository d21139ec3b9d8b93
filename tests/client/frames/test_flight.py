"""The states of a frame are written down in one table."""

from __future__ import annotations

import pytest

from spinn_client.frames.flight import TRANSITIONS, Flight, Happens, State
from spinn_stream.plan import Plan


def test_every_state_is_in_the_table_and_can_be_reached() -> None:
    assert TRANSITIONS.keys() == set(State)
    reached = {State.HEAD} | {state for row in TRANSITIONS.values() for state in row.values()}
    assert reached == set(State)


def test_a_frame_can_be_answered_in_every_state_but_the_last_and_never_twice() -> None:
    for state, row in TRANSITIONS.items():
        assert (row.get(Happens.ANSWERED) is State.SETTLED) == (state is not State.SETTLED)
    assert not TRANSITIONS[State.SETTLED]


def test_what_cannot_happen_is_refused() -> None:
    flight = Flight(1, 0.0, 1.0, Plan(1, 9, None))
    flight.happens(Happens.UNSURE)
    with pytest.raises(KeyError):
        flight.happens(Happens.UNSURE)
    assert flight.state is State.HELD
