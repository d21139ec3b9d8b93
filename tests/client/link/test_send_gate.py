"""How long frames wait for the link, by a clock that is a number."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import pytest

from spinn_client.link.send_gate import EARLY, HOLD, LEAST_HOLD_S, SendGate

Busy = Callable[[float], float | None]

SIZE = 1000
ANSWER_S = 1e-4
"""For each byte, once the link is free."""


@dataclass
class Room:
    """A link and server that have no room for as long as `busy` says."""

    busy: Busy

    def busy_s(self, now: float) -> float | None:
        return self.busy(now)

    def answer_s(self, now: float, size: int) -> float:
        return ANSWER_S * size


def waited(busy: Busy, ask: Callable[[SendGate, float], float]) -> tuple[float, bool]:
    """Seconds that somebody waits who asks again whenever told to, and whether there is room then."""
    gate, now = SendGate(Room(busy)), 0.0
    while 0 < (wait := ask(gate, now)) < math.inf:
        now += wait
    return now, wait == 0


def to_send(left_s: float = 9.0, deadline_s: float | None = None) -> Callable[[SendGate, float], float]:
    return lambda gate, now: gate.to_send(now, SIZE, left_s, deadline_s)


def to_begin(head_s: float, most_s: float, deadline_s: float = 9.0) -> Callable[[SendGate, float], float]:
    return lambda gate, now: gate.to_begin(now, head_s, most_s, deadline_s)


def free_at(when: float) -> Busy:
    return lambda now: max(0.0, when - now)


def test_a_frame_is_sent_when_the_link_is_free() -> None:
    seconds, room = waited(free_at(0.3), to_send())
    assert room and seconds == pytest.approx(0.3, abs=LEAST_HOLD_S)
    assert waited(lambda now: 0.001, to_send()) == (0.0, True)


def test_the_newest_frame_is_taken_a_head_before_the_link_is_free() -> None:
    seconds, _ = waited(free_at(0.3), to_begin(0.08, 1.0))
    assert seconds == pytest.approx(0.3 - EARLY * 0.08, abs=LEAST_HOLD_S)
    assert waited(free_at(0.3), to_begin(0.3, 1.0)) == (0.0, True)


def test_nothing_waits_to_begin_if_the_link_is_busy_for_longer_than_frames_can_wait() -> None:
    assert waited(free_at(0.3), to_begin(0.01, 0.29)) == (0.0, True)


def test_a_link_that_stays_busy_is_waited_for_no_longer_than_half_as_long_again() -> None:
    seconds, room = waited(lambda now: 0.2, to_send())
    assert not room and seconds == pytest.approx(HOLD * 0.2, abs=LEAST_HOLD_S)
    seconds, begins = waited(lambda now: 0.2, to_begin(0.04, 1.0))
    assert begins and seconds == pytest.approx(HOLD * (0.2 - EARLY * 0.04), abs=LEAST_HOLD_S)


def test_a_frame_that_cannot_wait_goes_to_the_device() -> None:
    left = iter([0.05, 0.02, 0.0])
    seconds, room = waited(free_at(0.3), lambda gate, now: gate.to_send(now, SIZE, next(left), None))
    assert not room and seconds == pytest.approx(0.07)


def test_what_would_be_answered_too_late_is_not_sent_unless_to_learn_of_the_link() -> None:
    takes_s = 0.3 + ANSWER_S * SIZE
    assert waited(free_at(0.3), to_send(deadline_s=takes_s - 0.01)) == (0.0, False)
    for deadline_s in (takes_s + 0.01, None):
        seconds, room = waited(free_at(0.3), to_send(deadline_s=deadline_s))
        assert room and seconds == pytest.approx(0.3, abs=LEAST_HOLD_S)


def test_nothing_waits_to_begin_if_no_answer_would_come_in_time() -> None:
    """Once it is known how much there is to send."""
    takes_s = 0.05 + ANSWER_S * SIZE
    for deadline_s, expected in ((takes_s - 0.01, 0.0), (takes_s + 0.01, 0.3 - EARLY * 0.05)):
        gate, now = SendGate(Room(free_at(0.3))), 0.0
        assert gate.to_send(0.0, SIZE, 9.0, 0.0) == math.inf
        while (wait := gate.to_begin(now, 0.05, 1.0, deadline_s)) > 0:
            now += wait
        assert now == pytest.approx(expected, abs=LEAST_HOLD_S)


def test_nobody_waits_for_a_link_that_is_down() -> None:
    assert waited(lambda now: None, to_send()) == (0.0, True)
    assert waited(lambda now: None, to_begin(0.0, 9.0)) == (0.0, True)
    falls = waited(lambda now: 0.2 if now < 0.1 else None, to_send())
    assert falls == (pytest.approx(0.2), True)  # it was told to ask again when the link should have been free


def test_a_wait_that_was_given_up_is_forgotten() -> None:
    gate = SendGate(Room(lambda now: 0.2))
    assert 0 < gate.to_send(0.0, SIZE, 9.0, None) < math.inf
    gate.forget()
    assert gate.to_send(10.0, SIZE, 9.0, None) == pytest.approx(0.2)
