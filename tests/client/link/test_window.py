"""How many requests may be under way, with numbers for clocks."""

from __future__ import annotations

import math
from collections import deque

import pytest

from spinn_client.link.window import MEMORY_S, Window

SIZE = 1000


def most_under_way(rate: float, trip_s: float, *, requests: int = 2000) -> int:
    """A path that delivers `rate` requests a second, one after the other, and takes `trip_s` besides: how many requests
    are under way at most, once the window knows the path, if one is sent whenever that is allowed."""
    window, now, free = Window(), 0.0, 0.0
    under_way: deque[tuple[float, int]] = deque()  # (when it is answered, request)
    most = 0
    for request in range(requests):
        while not window.open(now):
            now, answered = under_way.popleft()
            window.settled(answered, now, answered=True)
        free = max(free, now) + 1 / rate
        under_way.append((free + trip_s, request))
        window.sent(request, SIZE, now)
        if request > requests // 2:
            most = max(most, len(under_way))
    return most


@pytest.mark.parametrize(("rate", "trip_s"), [(10.0, 0.02), (10.0, 0.2), (100.0, 0.2), (30.0, 1.0)])
def test_what_is_under_way_is_what_the_path_holds_and_one_more(rate: float, trip_s: float) -> None:
    """The least round trip is the way and one request's own time; a rate of n requests in that, and the next one."""
    holds = rate * (trip_s + 1 / rate)
    assert holds * 0.9 <= most_under_way(rate, trip_s) <= holds + 2


def test_nothing_is_known_at_first_so_one_request_finds_out() -> None:
    window = Window()
    assert window.open(0.0)
    window.sent(1, SIZE, 0.0)
    assert not window.open(0.01)
    window.settled(1, 0.1, answered=True)
    assert window.open(0.1)


def test_what_was_refused_or_lost_gives_its_room_back() -> None:
    window = Window()
    window.sent(1, SIZE, 0.0)
    window.settled(1, 5.0, answered=False)
    assert window.open(5.0)


def test_a_path_that_has_become_slower_is_known_after_a_while() -> None:
    window, now = Window(), 0.0
    for request in range(50):  # 100 a second, 50 ms
        window.sent(request, SIZE, now)
        now += 0.01
        if request >= 5:
            window.settled(request - 5, now, answered=True)
    assert window.open(now)
    now += 0.05
    for request in range(45, 50):
        window.settled(request, now, answered=True)
    for request in range(100, 100 + round(MEMORY_S) + 5):  # one a second
        window.sent(request, SIZE, now)
        now += 1.0
        window.settled(request, now, answered=True)
    window.sent(1000, SIZE, now)
    window.sent(1001, SIZE, now)
    assert not window.open(now), "what it holds by now is one request, and the next one"


def rounds_until_full(holds: int) -> int:
    """Of a path of 1 s a round trip that delivers everything at once: after how many round trips `holds` requests are
    under way, if one is sent whenever that is allowed and the path has room."""
    window, now = Window(), 0.0
    under_way: deque[tuple[float, int]] = deque()
    for request in range(10 * holds * holds):
        while not window.open(now) or len(under_way) == holds:
            if len(under_way) == holds:
                return round(now)
            now, answered = under_way.popleft()
            window.settled(answered, now, answered=True)
        now += 0.001
        under_way.append((now + 1.0, request))
        window.sent(request, SIZE, now)
    raise AssertionError("never full")


@pytest.mark.parametrize("holds", [8, 32])
def test_the_window_of_a_long_path_doubles_with_each_round_trip_at_the_start(holds: int) -> None:
    assert rounds_until_full(holds) <= math.log2(holds) + 1


def test_a_path_without_room_for_a_second_request_has_no_more_queued_at_the_start_than_later() -> None:
    window = Window()
    window.sent(1, SIZE, 0.0)
    window.settled(1, 1.0, answered=True)
    window.sent(2, SIZE, 1.0)
    assert window.open(1.0)
    window.sent(3, SIZE, 1.0)
    assert not window.open(1.0)
    window.settled(2, 2.0, answered=True)
    assert window.open(2.0)
    window.sent(4, SIZE, 2.0)
    assert not window.open(2.0), "two were under way, and no more came a second"
