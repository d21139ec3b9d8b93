"""How long frames wait for the link, by a clock that is a number."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from spinn_client.link_gate import EARLY, HOLD, LEAST_HOLD_S, LinkGate
from spinn_traces.simulator.virtual_loop import VirtualLoop, run_virtually

Busy = Callable[[float], float | None]


def waited(busy: Busy, wait: Callable[[LinkGate], Awaitable[object]]) -> tuple[float, object]:
    """Seconds, and what the wait said. busy: by the time."""
    loop = VirtualLoop()

    async def main() -> tuple[float, object]:
        began = loop.clock()
        gate = LinkGate(lambda: busy(loop.clock() - began), loop.clock)
        said = await wait(gate)
        return loop.clock() - began, said

    return run_virtually(loop, main())


def free_at(when: float) -> Busy:
    return lambda now: max(0.0, when - now)


def test_a_frame_is_sent_when_the_link_is_free() -> None:
    assert waited(free_at(0.3), lambda gate: gate.wait_to_send(lambda: 9.0)) == (
        pytest.approx(0.3, abs=LEAST_HOLD_S), True
    )  # fmt: skip
    assert waited(lambda now: 0.001, lambda gate: gate.wait_to_send(lambda: 9.0)) == (0.0, True)


def test_the_newest_frame_is_taken_a_head_before_the_link_is_free() -> None:
    seconds, _ = waited(free_at(0.3), lambda gate: gate.wait_to_begin(0.08, 1.0))
    assert seconds == pytest.approx(0.3 - EARLY * 0.08, abs=LEAST_HOLD_S)
    seconds, _ = waited(free_at(0.3), lambda gate: gate.wait_to_begin(0.3, 1.0))
    assert seconds == 0.0


def test_nothing_waits_to_begin_where_the_link_is_busy_for_longer_than_frames_can_wait() -> None:
    seconds, _ = waited(free_at(0.3), lambda gate: gate.wait_to_begin(0.01, 0.29))
    assert seconds == 0.0


def test_a_link_that_stays_busy_is_waited_for_no_longer_than_half_as_long_again() -> None:
    seconds, said = waited(lambda now: 0.2, lambda gate: gate.wait_to_send(lambda: 9.0))
    assert said is False and seconds == pytest.approx(HOLD * 0.2, abs=LEAST_HOLD_S)
    seconds, _ = waited(lambda now: 0.2, lambda gate: gate.wait_to_begin(0.04, 1.0))
    assert seconds == pytest.approx(HOLD * (0.2 - EARLY * 0.04), abs=LEAST_HOLD_S)


def test_a_frame_that_cannot_wait_goes_to_the_device() -> None:
    left = iter([0.05, 0.02, 0.0])
    seconds, said = waited(free_at(0.3), lambda gate: gate.wait_to_send(lambda: next(left)))
    assert said is False and seconds == pytest.approx(0.07)


def test_nobody_waits_for_a_link_that_is_down() -> None:
    assert waited(lambda now: None, lambda gate: gate.wait_to_send(lambda: 9.0)) == (0.0, True)
    assert waited(lambda now: None, lambda gate: gate.wait_to_begin(0.0, 9.0))[0] == 0.0
    falls = waited(lambda now: 0.2 if now < 0.1 else None, lambda gate: gate.wait_to_send(lambda: 9.0))
    assert falls == (pytest.approx(0.2), True)  # looked at when it should have been free


def test_waiting_can_be_cancelled() -> None:
    async def cancelled(gate: LinkGate) -> None:
        async with asyncio.timeout(0.1):
            await gate.wait_to_send(lambda: 9.0)

    with pytest.raises(TimeoutError):
        waited(lambda now: 5.0, cancelled)
