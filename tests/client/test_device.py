"""The device's own part of the network."""

from __future__ import annotations

import asyncio
import time

import numpy as np
import numpy.typing as npt
import pytest

from spinn_client.device import Device, StageClock
from spinn_stream.codec import decode_payload
from spinn_stream.model.bundle import Bundle
from spinn_stream.plan import Plan
from spinn_stream.runtime import Answer, Engine

SPLIT = 10  # behind the first exit
FAR = 1e9  # seconds: no hurry


@pytest.fixture
def device(bundle: Bundle, engine: Engine) -> Device:
    return Device(bundle, engine)


def ignore(answer: Answer) -> None:
    """Local exits are of no interest here."""


def test_a_head_stops_at_the_first_confident_exit(
    device: Device, bundle: Bundle, photographs: list[npt.NDArray[np.uint8]]
) -> None:
    outcome = asyncio.run(device.head(photographs[0], Plan(1, SPLIT, 0.0), ignore))
    assert outcome.answer is not None and outcome.answer.exit == bundle.exits[0].name and outcome.payload is None


def test_an_unsure_head_tells_every_exit_and_hands_over_what_the_server_needs(
    device: Device, bundle: Bundle, photographs: list[npt.NDArray[np.uint8]]
) -> None:
    told: list[Answer] = []

    async def main() -> None:
        outcome = await device.head(photographs[0], Plan(1, SPLIT, None), told.append)
        await asyncio.sleep(0)
        assert outcome.answer is None and outcome.payload is not None
        received = decode_payload(bundle, SPLIT, "cnn-co", outcome.payload)
        step = (outcome.activation.max() - outcome.activation.min()) / 255
        assert np.abs(received - outcome.activation).max() <= 0.51 * step
        answer = await device.complete(outcome.activation, SPLIT, Plan(1, SPLIT, None), FAR, told.append)
        assert answer is not None and answer.exit == "final"

    asyncio.run(main())
    assert [a.exit for a in told] == [e.name for e in bundle.exits[:-1]]


def test_nothing_is_begun_that_would_end_too_late(device: Device, bundle: Bundle) -> None:
    x = np.zeros((1, *bundle.cut_points[SPLIT].shape), np.float32)
    assert asyncio.run(device.complete(x, SPLIT, Plan(1, SPLIT, 0.0), time.monotonic() - 1, ignore)) is None


def test_a_rescue_goes_no_further_than_the_next_exit(device: Device, bundle: Bundle) -> None:
    told: list[Answer] = []
    x = np.zeros((1, *bundle.cut_points[0].shape), np.float32)

    async def main() -> None:
        assert await device.complete(x, 0, Plan(1, 0, None), FAR, told.append, only_first_exit=True) is None
        await asyncio.sleep(0)

    asyncio.run(main())
    assert [a.exit for a in told] == [bundle.exits[0].name]


def test_values_that_cannot_be_sent_are_finished_here(device: Device, photographs: list[npt.NDArray[np.uint8]]) -> None:
    class Broken:
        """An engine whose activations are not numbers."""

        name = "broken"

        def prepare(self, start: int, stop: int, *, exit: bool = True) -> None: ...

        def run(
            self, start: int, stop: int, x: npt.NDArray[np.float32], *, exit: bool = True
        ) -> tuple[npt.NDArray[np.float32], None]:
            return np.full((1, 80, 8, 8), np.nan, np.float32), None

    device._engine = Broken()
    outcome = asyncio.run(device.head(photographs[0], Plan(1, SPLIT, None), ignore))
    assert outcome.answer is None and outcome.payload is None


def test_the_stage_clock_remembers_the_slow_and_forgets_them_slowly() -> None:
    clock = StageClock()
    assert clock.expected_ms([(0, 5)]) == 0
    for ms in (10, 50, 10, 10):
        clock.observe(0, 5, ms)
    assert clock.expected_ms([(0, 5)]) == pytest.approx(50 * 0.9**2)
    clock.observe(5, 9, 1)
    assert clock.expected_ms([(0, 5), (5, 9)]) == pytest.approx(50 * 0.9**2 + 1)
