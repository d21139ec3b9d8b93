"""What a link's round trips and the server's stamps say of its capacity, with numbers for clocks."""

from __future__ import annotations

import pytest

from spinn_client.link.estimate import LinkEstimate, LinkReading

SERVER_MS = 7.0
CLOCK_MS = 123_456.0  # the server's clock is another one


class Link:
    """A link with a capacity and a round trip, with one request behind the other."""

    def __init__(self, mbps: float, rtt_ms: float) -> None:
        self.mbps, self.rtt_ms = mbps, rtt_ms
        self.estimate = LinkEstimate(0.0)
        self.free_at = 0.0
        self.answers: list[tuple[float, int, float]] = []  # (when, request, arrival at the server)

    def send(self, request: int, size: int, now: float) -> None:
        self.settle(now)
        self.estimate.sent(request, size, now)
        self.free_at = max(self.free_at, now) + size * 8e-6 / self.mbps
        arrived = self.free_at + self.rtt_ms / 2000
        self.answers.append((arrived + (self.rtt_ms / 2 + SERVER_MS) / 1000, request, arrived))

    def settle(self, now: float) -> None:
        """Tell of the answers that came by now."""
        while self.answers and self.answers[0][0] <= now:
            at, request, arrived = self.answers.pop(0)
            stamp = CLOCK_MS + 1000 * arrived
            self.estimate.answered(request, at, arrived_ms=stamp, left_ms=stamp + SERVER_MS)

    def ping(self, now: float) -> None:
        self.settle(now)
        self.estimate.ponged(self.rtt_ms, now)

    def reading(self, now: float) -> LinkReading:
        self.settle(now)
        return self.estimate.reading(now)


@pytest.mark.parametrize("mbps", [0.5, 1.0, 2.0])
def test_requests_that_wait_for_each_other_show_the_capacity(mbps: float) -> None:
    link = Link(mbps, 40)
    link.ping(0.0)
    for n in range(30):  # 10 kB 30 times a second: 2.4 Mb/s
        link.send(n, 10_000, n / 30)
    assert link.reading(1.0) == LinkReading(pytest.approx(mbps), True, 40)


def test_a_request_alone_shows_the_capacity_by_how_much_longer_it_takes_than_a_ping() -> None:
    link = Link(2.0, 40)
    link.ping(0.0)
    for n in range(3):
        link.send(n, 10_000, 0.3 * n)  # 40 ms each, and the link rests between them
    assert link.reading(1.0) == LinkReading(pytest.approx(2.0), True, 40)


def test_a_link_that_is_not_filled_shows_a_lower_bound() -> None:
    link = Link(1000.0, 40)
    link.ping(0.0)
    for n in range(30):
        link.send(n, 10_000, n / 30)
    reading = link.reading(1.5)
    assert reading == LinkReading(pytest.approx(30 * 10_000 * 8e-6 / 1.5), False, pytest.approx(40))


def test_without_requests_only_the_round_trip_is_known() -> None:
    link = Link(1.0, 40)
    assert link.reading(1.0) == LinkReading(None, False, None)
    link.ping(1.5)
    assert link.reading(2.0) == LinkReading(None, False, 40)


def test_a_request_that_nothing_answers_shows_that_nothing_passes() -> None:
    link = Link(1.0, 40)
    link.ping(0.0)
    link.estimate.sent(1, 10_000, 0.5)
    assert link.reading(1.0) == LinkReading(None, False, 40)  # it may still come
    assert link.reading(2.0) == LinkReading(0.0, True, 40)


def test_a_request_that_was_sent_just_before_is_waited_for_no_less_than_a_round_trip() -> None:
    link = Link(1.0, 40)
    link.ping(0.0)
    link.estimate.sent(1, 10_000, 0.98)
    link.reading(1.0)
    assert link.reading(2.0) == LinkReading(None, False, None)  # its answer was due at 1.02, after this time began
    assert link.reading(3.0) == LinkReading(0.0, True, 40)


def test_a_server_that_takes_its_time_is_not_taken_for_the_link() -> None:
    link = Link(1.0, 40)
    link.estimate.sent(1, 10_000, 0.0)
    link.reading(1.0)
    link.ping(1.5)
    assert link.reading(2.0) == LinkReading(None, False, 40)
    link.estimate.answered(1, 2.125, arrived_ms=CLOCK_MS, left_ms=CLOCK_MS + 2000)  # 125 ms on the way: 80, 40 and 5
    assert link.reading(3.0).up_mbps == pytest.approx(10_000 * 8e-3 / 85)


def test_what_was_refused_has_passed_too() -> None:
    link = Link(1.0, 40)
    link.ping(0.0)
    for n in range(3):
        link.estimate.sent(n, 12_500, 0.0)  # 100 ms each
    link.estimate.answered(0, 0.140, arrived_ms=100, left_ms=100)
    link.estimate.refused(1, 0.5)
    link.estimate.answered(2, 0.340, arrived_ms=300, left_ms=300)
    assert link.estimate.reading(1.0).up_mbps == pytest.approx(1.0)


def test_another_connection_has_another_clock() -> None:
    link = Link(1.0, 40)
    link.ping(0.0)
    link.estimate.sent(1, 12_500, 0.0)
    link.estimate.answered(1, 0.140, arrived_ms=9000, left_ms=9000)
    link.estimate.sent(2, 12_500, 0.2)
    link.estimate.disconnected()
    link.estimate.answered(2, 0.3, arrived_ms=10, left_ms=10)  # nobody's
    link.estimate.sent(3, 12_500, 0.4)
    link.estimate.answered(3, 0.540, arrived_ms=5, left_ms=5)
    assert link.estimate.reading(1.0) == LinkReading(pytest.approx(1.0), True, 40)


def test_a_shorter_way_is_forgotten_after_a_while() -> None:
    estimate = LinkEstimate(0.0)
    estimate.ponged(20, 0.0)
    for n in range(1, 15):
        estimate.ponged(80, float(n))
    estimate.sent(1, 12_500, 14.0)
    estimate.answered(1, 14.180, arrived_ms=0, left_ms=0)  # 100 ms longer than 80
    assert estimate.reading(15.0) == LinkReading(pytest.approx(1.0), True, 80)
