"""Plans are made with what is known of both sides just now."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from spinn_client.device.device import Device
from spinn_client.steering.guide import Asked
from spinn_client.steering.steering import Steering
from spinn_stream.bundle import Bundle
from spinn_stream.codec import CodecSetting
from spinn_stream.plan import POLICIES, Plan, parse_sla
from spinn_stream.profile import Profile, Timing
from spinn_stream.runtime import Engine


@dataclass
class Told:
    """A link that is up, to a server that told its profile, load and queue."""

    server_profile: Profile
    server_load: float = 2.0
    server_queue_ms: float = 1.0
    up: bool = True
    active: int = 0
    observers: list[Any] = field(default_factory=list)
    ping_soon: Callable[[], None] = lambda: None

    @property
    def servers(self) -> list[Told]:
        return [self]

    def observe(self, observer: Any) -> None:
        self.observers.append(observer)


def test_what_the_device_learns_of_its_own_profile_is_planned_with(
    bundle: Bundle, engine: Engine, profile: Profile
) -> None:
    device = Device(bundle, engine, profile)
    asked = Asked(POLICIES["device-only"], parse_sla("minimize latency_ms"))

    async def main() -> tuple[float, float]:
        steering = Steering(bundle, asked, device, None, deadline_ms=1e6, fps=1.0, unpaced=False)
        before = steering.forecast().latency_ms
        device.profile = replace(profile, preprocess=Timing(profile.preprocess.median_ms + 300.0, 500.0))
        running = asyncio.create_task(steering.run(lambda: 0, lambda decision: None))
        for _ in range(1000):
            if steering.forecast().latency_ms != before:
                break
            await asyncio.sleep(0.01)
        running.cancel()
        return before, steering.forecast().latency_ms

    before, after = asyncio.run(main())
    device.close()
    assert after - before == pytest.approx(300.0)


def test_what_a_server_does_besides_its_network_is_planned_with(
    bundle: Bundle, engine: Engine, profile: Profile
) -> None:
    """Its stamps say 4 ms more than twice the profile's time (its load), decoding included: for a frame that it had
    alone, and for one that waited for that."""
    device = Device(bundle, engine, profile)
    asked = Asked(POLICIES["server-only"], parse_sla("minimize latency_ms"))
    plan = Plan(1, 0, None, CodecSetting("png", None))
    decode = 6.6 * 3 * 128 * 128 / 1e6
    usual = 2 * (decode + profile.expected_ms([(0, bundle.last)]))
    told = Told(replace(profile))

    def answered(steering: Steering, arrived_ms: float, left_ms: float) -> None:
        for observer in told.observers:
            observer.answered(0, 0.0, arrived_ms=arrived_ms, left_ms=left_ms)
        steering.served(plan, bundle.last, arrived_ms, left_ms)

    async def main() -> tuple[float, float, float]:
        steering = Steering(bundle, asked, device, told, deadline_ms=1e6, fps=1.0, unpaced=False)  # type: ignore[arg-type]
        await steering._meet_profiles()
        found = [steering.forecast().latency_ms]
        for more in (4.0, -4.0):
            for n in range(200):
                answered(steering, 1000.0 * n, 1000.0 * n + usual + more)
                answered(steering, 1000.0 * n + 1, 1000.0 * n + 2 * (usual + more))
            told.server_queue_ms = 20.0
            answered(steering, 1e6, 1e6 + 500)  # waited for others, for all one knows
            told.server_queue_ms = 1.0
            for observer in told.observers:
                observer.disconnected()  # the next server's clock is another one
            found.append(steering.forecast().latency_ms)
        return found[0], found[1], found[2]

    before, busier, quicker = asyncio.run(main())
    device.close()
    assert busier - before == pytest.approx(4.0, abs=0.2)
    assert quicker == pytest.approx(before, abs=0.2), "a server is never planned to be faster than it says"


def test_pictures_that_take_more_bytes_than_the_tables_are_planned_with(
    bundle: Bundle, engine: Engine, profile: Profile
) -> None:
    """What is learned of one quality holds for the codec's others, too, and of probes as of frames."""
    device = Device(bundle, engine, profile)
    asked = Asked(POLICIES["server-only"], parse_sla("minimize uplink"))
    told = Told(replace(profile))
    expected = next(row.bytes_mean for row in bundle.payloads if row.codec == "jpeg:95")

    async def main() -> tuple[float, float]:
        steering = Steering(bundle, asked, device, told, deadline_ms=1e6, fps=1.0, unpaced=False)  # type: ignore[arg-type]
        before = steering.forecast().bytes_up
        for _ in range(200):
            steering.coded(0, CodecSetting("jpeg", 95), round(1.5 * expected))
        return before, steering.forecast().bytes_up

    before, after = asyncio.run(main())
    device.close()
    assert after / before == pytest.approx(1.5, abs=0.01)
