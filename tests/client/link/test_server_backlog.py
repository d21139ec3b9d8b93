"""How many requests of a client are on the server, where it sends the next one as `ServerBacklog` says. All in ms."""

from __future__ import annotations

import random

import pytest

from spinn_client.link.server_backlog import ServerBacklog

WAY_MS = 15.0


def play(service_ms: float, *, scatter: float = 0.0, every_ms: float, seconds: float) -> tuple[list[float], float]:
    """(waits on the server, answers a second) of a client that takes the newest frame when there is room.

    The server takes `service_ms` for each request, one after the other, up to the share `scatter` more or less.
    """
    backlog, draw = ServerBacklog(), random.Random(0)
    coming: list[tuple[float, int, float, float]] = []  # when the answer is here, request, stamps
    waits: list[float] = []
    now, free, answers, next_frame = 0.0, 0.0, 0, 0.0
    while now < seconds * 1000:
        while coming and coming[0][0] <= now:
            _, request, arrived, left = coming.pop(0)
            backlog.answered(request, now / 1000, arrived_ms=arrived + 5e6, left_ms=left + 5e6)
            answers += 1
        if now >= next_frame and backlog.wait_s(now / 1000) <= 0.002:
            backlog.sent(len(waits), 1000, now / 1000)
            arrived = now + WAY_MS
            waits.append(max(0.0, free - arrived))
            free = max(arrived, free) + service_ms * (1 + scatter * draw.uniform(-1, 1))
            coming.append((free + WAY_MS, len(waits) - 1, arrived, free))
            next_frame = (now // every_ms + 1) * every_ms
        now += 1.0
    return waits, answers / seconds


@pytest.mark.parametrize("scatter", [0.0, 0.3])
def test_a_server_that_cannot_keep_up_is_never_idle_and_nobody_waits_for_two(scatter: float) -> None:
    waits, rate = play(50.0, scatter=scatter, every_ms=33.0, seconds=20)
    settled = sorted(waits[20:])
    assert settled[-1] <= 50 * (1 + scatter) + 33 + 2  # one other, and what scatters
    assert settled[len(settled) // 2] <= 50 + 2
    assert rate == pytest.approx(1000 / 50, rel=0.05)


def test_a_server_that_keeps_up_is_not_waited_for() -> None:
    waits, rate = play(20.0, every_ms=33.0, seconds=10)
    assert max(waits) == 0.0 and rate == pytest.approx(1000 / 33, rel=0.03)


def test_a_server_that_became_slower_is_noticed_by_its_answers() -> None:
    backlog = ServerBacklog()
    for n in range(40):  # 10 ms each, alone
        backlog.sent(n, 1000, 0.1 * n)
        backlog.answered(n, 0.1 * n + 0.05, arrived_ms=100.0 * n, left_ms=100.0 * n + 10)
    for n in (40, 41, 42):
        backlog.sent(n, 1000, 4.0)
    assert backlog.wait_s(4.0) == pytest.approx(0.020)  # until two of the three are done
    assert backlog.wait_s(4.015) == pytest.approx(0.005)
    for n in range(40, 43):  # in fact they take 100 ms, one after the other
        backlog.answered(n, 4.2 + 0.1 * (n - 40), arrived_ms=4000.0, left_ms=4100.0 + 100 * (n - 40))
    for n in (50, 51):
        backlog.sent(n, 1000, 9.0)
    assert 0.02 < backlog.wait_s(9.0) < 0.1


def test_requests_of_one_batch_count_as_one_service() -> None:
    backlog = ServerBacklog()
    for n in range(0, 400, 4):
        for k in range(4):
            backlog.sent(n + k, 1000, 0.1 * n)
        for k in range(4):
            backlog.answered(n + k, 0.1 * n + 0.1, arrived_ms=100.0 * n, left_ms=100.0 * n + 40)
    backlog.sent(400, 1000, 50.0)
    backlog.sent(401, 1000, 50.0)
    assert 0.005 < backlog.wait_s(50.0) < 0.02  # 40 ms for four


def test_what_is_refused_or_lost_is_not_waited_for() -> None:
    backlog = ServerBacklog()
    backlog.sent(1, 1000, 0.0)
    backlog.answered(1, 0.1, arrived_ms=0.0, left_ms=50.0)
    backlog.sent(2, 1000, 1.0)
    backlog.sent(3, 1000, 1.0)
    assert backlog.wait_s(1.0) == pytest.approx(0.05)
    backlog.refused(2, 1.0)
    assert backlog.wait_s(1.0) == 0.0
    backlog.sent(4, 1000, 1.0)
    assert backlog.wait_s(1.0) > 0.0
    backlog.disconnected()
    assert backlog.wait_s(1.0) == 0.0
