"""The supervisor of one server's link, with numbers for clocks."""

from __future__ import annotations

import random

import pytest

from spinn_client.link.supervisor import (
    HEALTHY_S,
    PATIENCE_S,
    PING_S,
    SILENT_S,
    TRANSITIONS,
    UNANSWERED_S,
    State,
    Supervisor,
)


@pytest.fixture
def connected() -> Supervisor:
    """Since 10.0 s."""
    supervisor = Supervisor(random.Random(1))
    supervisor.tries(9.9)
    supervisor.welcomed(10.0)
    return supervisor


def test_every_state_can_end() -> None:
    assert TRANSITIONS.keys() == set(State)
    assert all(State.OPEN in nexts.values() for state, nexts in TRANSITIONS.items() if state is not State.OPEN)


def test_a_request_past_its_deadline_makes_the_link_suspect_until_it_is_answered(connected: Supervisor) -> None:
    connected.sent(1, deadline=10.15)
    assert connected.look(10.1) is State.CONNECTED
    assert connected.look(10.15) is State.SUSPECT
    connected.settled(1, 10.3)
    assert connected.state is State.CONNECTED and connected.since == 10.3


def test_a_request_that_is_never_answered_holds_nothing_up_once_a_later_one_is_answered(connected: Supervisor) -> None:
    for request in range(3):
        connected.sent(request, deadline=10.15)
    connected.settled(1, 10.1)
    assert connected.look(10.2) is State.SUSPECT, "nothing behind request 2 was answered"
    connected.settled(2, 10.2)
    assert connected.look(10.2) is State.CONNECTED
    assert connected.given_up(10.15 + UNANSWERED_S - 0.01) == []
    assert connected.given_up(10.15 + UNANSWERED_S) == [0] and connected.given_up(99.0) == []


def test_one_that_is_overdue_for_long_holds_up_nothing_if_the_server_answers_pings(connected: Supervisor) -> None:
    """It was the last one that was sent, so that no later one's answer can come before its own."""
    connected.sent(1, deadline=10.15)
    assert connected.look(10.2) is State.SUSPECT
    connected.pinged(10.3)
    assert connected.look(10.15 + PATIENCE_S) is State.SUSPECT, "nothing came since"
    connected.heard(10.66, pong=True)
    assert connected.look(10.66) is State.CONNECTED, "another one may be tried"
    connected.sent(2, deadline=10.9)
    assert connected.look(10.9) is State.SUSPECT
    assert connected.dead(10.15 + UNANSWERED_S - 0.01) is None
    assert connected.dead(10.15 + UNANSWERED_S) is not None, "no answer came since the first was overdue"


def test_order_is_that_of_sending_and_not_of_the_numbers(connected: Supervisor) -> None:
    connected.sent(7, deadline=10.15)
    connected.sent(5, deadline=10.15)
    connected.settled(7, 10.1)
    assert connected.look(10.2) is State.SUSPECT
    connected.settled(5, 10.2)
    assert connected.look(10.2) is State.CONNECTED


def test_a_server_that_answers_pings_and_no_request_is_left(connected: Supervisor) -> None:
    connected.sent(1, deadline=10.15)
    for tick in range(20):
        at = 10.0 + tick * PING_S
        connected.pinged(at)
        connected.heard(at + 0.01, pong=True)
        if why := connected.dead(at + 0.02):
            assert at + 0.02 >= 10.15 + UNANSWERED_S and "not answered" in why
            return
    pytest.fail("it is kept for ever")


def test_a_peer_that_says_nothing_is_dead_after_the_silence_and_not_before(connected: Supervisor) -> None:
    connected.pinged(10.5)
    connected.heard(10.52, pong=True)
    assert connected.dead(99.0) is None, "nobody was asked"
    connected.pinged(11.0)
    assert connected.dead(11.0 + SILENT_S - 0.01) is None
    assert connected.dead(11.0 + SILENT_S) == "nothing came for 2 s"


def test_whatever_comes_is_a_sign_of_life(connected: Supervisor) -> None:
    connected.pinged(10.5)
    connected.heard(12.0)
    assert connected.dead(10.5 + SILENT_S) is None and connected.dead(12.0 + SILENT_S) is not None


def test_connecting_is_no_health_so_pauses_grow_and_begin_anew_after_a_while_of_it() -> None:
    supervisor, now = Supervisor(random.Random(1)), 0.0
    pauses = []
    for _ in range(50):  # accepted, and closed at once
        pauses.append(supervisor.pause_s())
        now += pauses[-1]
        supervisor.tries(now)
        supervisor.welcomed(now)
        supervisor.ended(now)
    assert now / 50 > 0.3, "fewer than three connections a second"
    supervisor.tries(now)
    supervisor.welcomed(now)
    supervisor.ended(now + HEALTHY_S)
    assert supervisor.pause_s() == pytest.approx(min(pauses)) == pytest.approx(0.1)


def test_nothing_of_one_connection_counts_for_the_next(connected: Supervisor) -> None:
    connected.sent(1, deadline=10.15)
    connected.sent(2, deadline=10.15)
    connected.settled(2, 10.1)
    connected.pinged(10.5)
    connected.ended(11.0)
    connected.tries(11.1)
    connected.welcomed(20.0)
    assert connected.look(20.0) is State.CONNECTED
    assert connected.dead(20.1) is None and connected.given_up(99.0) == []
    connected.settled(1, 20.2)  # of the connection before: nobody's
    assert connected.state is State.CONNECTED
