"""How long frames wait for the link, by a clock that is a number."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from spinn_client.link.send_gate import EARLY, HOLD, LEAST_HOLD_S, SendGate
from spinn_traces.simulator.virtual_loop import VirtualLoop, run_virtually

Busy = Callable[[float], float | None]


SIZE = 1000
ANSWER_S = 1e-4
"""For each byte, once the link is free."""


def waited(busy: Busy, wait: Callable[[SendGate], Awaitable[object]]) -> tuple[float, object]:
    """Seconds, and what the wait said. busy: by the time."""
    loop = VirtualLoop()

    async def main() -> tuple[float, object]:
        began = loop.clock()
        gate = SendGate(lambda: busy(loop.clock() - began), lambda size: ANSWER_S * size, loop.clock)
        said = await wait(gate)
        return loop.clock() - began, said

    return run_virtually(loop, main())


async def sent(gate: SendGate, left_s: Callable[[], float] = lambda: 9.0, *, deadline_s: float | None = None) -> bool:
    now = asyncio.get_running_loop().time()
    return await gate.wait_to_send(SIZE, left_s, None if deadline_s is None else now + deadline_s)


def free_at(when: float) -> Busy:
    return lambda now: max(0.0, when - now)


def test_a_frame_is_sent_when_the_link_is_free() -> None:
    seconds, said = waited(free_at(0.3), sent)
    assert said is True and seconds == pytest.approx(0.3, abs=LEAST_HOLD_S)
    assert waited(lambda now: 0.001, sent) == (0.0, True)


def test_the_newest_frame_is_taken_a_head_before_the_link_is_free() -> None:
    seconds, _ = waited(free_at(0.3), lambda gate: gate.wait_to_begin(0.08, 1.0, 9.0))
    assert seconds == pytest.approx(0.3 - EARLY * 0.08, abs=LEAST_HOLD_S)
    seconds, _ = waited(free_at(0.3), lambda gate: gate.wait_to_begin(0.3, 1.0, 9.0))
    assert seconds == 0.0


def test_nothing_waits_to_begin_where_the_link_is_busy_for_longer_than_frames_can_wait() -> None:
    seconds, _ = waited(free_at(0.3), lambda gate: gate.wait_to_begin(0.01, 0.29, 9.0))
    assert seconds == 0.0


def test_a_link_that_stays_busy_is_waited_for_no_longer_than_half_as_long_again() -> None:
    seconds, said = waited(lambda now: 0.2, sent)
    assert said is False and seconds == pytest.approx(HOLD * 0.2, abs=LEAST_HOLD_S)
    seconds, _ = waited(lambda now: 0.2, lambda gate: gate.wait_to_begin(0.04, 1.0, 9.0))
    assert seconds == pytest.approx(HOLD * (0.2 - EARLY * 0.04), abs=LEAST_HOLD_S)


def test_a_frame_that_cannot_wait_goes_to_the_device() -> None:
    left = iter([0.05, 0.02, 0.0])
    seconds, said = waited(free_at(0.3), lambda gate: sent(gate, lambda: next(left)))
    assert said is False and seconds == pytest.approx(0.07)


def test_what_would_be_answered_too_late_is_not_sent_unless_to_learn_of_the_link() -> None:
    takes_s = 0.3 + ANSWER_S * SIZE
    assert waited(free_at(0.3), lambda gate: sent(gate, deadline_s=takes_s - 0.01)) == (0.0, False)
    for deadline_s in (takes_s + 0.01, None):
        seconds, said = waited(free_at(0.3), lambda gate, s=deadline_s: sent(gate, deadline_s=s))  # type: ignore[misc]
        assert said is True and seconds == pytest.approx(0.3, abs=LEAST_HOLD_S)


def test_nothing_waits_to_begin_where_no_answer_would_come_in_time() -> None:
    """Once it is known how much there is to send."""

    async def second(gate: SendGate, deadline_s: float) -> None:
        await sent(gate, deadline_s=0.0)
        await gate.wait_to_begin(0.05, 1.0, deadline_s)

    takes_s = 0.05 + ANSWER_S * SIZE
    assert waited(free_at(0.3), lambda gate: second(gate, takes_s - 0.01))[0] == 0.0
    seconds, _ = waited(free_at(0.3), lambda gate: second(gate, takes_s + 0.01))
    assert seconds == pytest.approx(0.3 - EARLY * 0.05, abs=LEAST_HOLD_S)


def test_nobody_waits_for_a_link_that_is_down() -> None:
    assert waited(lambda now: None, sent) == (0.0, True)
    assert waited(lambda now: None, lambda gate: gate.wait_to_begin(0.0, 9.0, 9.0))[0] == 0.0
    falls = waited(lambda now: 0.2 if now < 0.1 else None, sent)
    assert falls[1] is True and falls[0] == pytest.approx(0.2)  # looked at when it should have been free


def test_waiting_can_be_cancelled() -> None:
    async def cancelled(gate: SendGate) -> None:
        async with asyncio.timeout(0.1):
            await sent(gate)

    with pytest.raises(TimeoutError):
        waited(lambda now: 5.0, cancelled)
