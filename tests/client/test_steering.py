"""Plans are made with what is known of both sides just now."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, replace

import pytest

from spinn_client.device import Device
from spinn_client.steering import Asked, Steering
from spinn_stream.model.bundle import Bundle
from spinn_stream.plan import POLICIES, Profile, Timing, parse_sla
from spinn_stream.runtime import Engine


@dataclass
class Still:
    """A source that gives no frame."""

    captured: int = 0


def test_what_the_device_learns_of_its_own_profile_is_planned_with(
    bundle: Bundle, engine: Engine, profile: Profile
) -> None:
    device = Device(bundle, engine, profile)
    asked = Asked(POLICIES["device-only"], parse_sla("minimize latency_ms"))
    steering = Steering(bundle, asked, deadline_ms=1e6, fps=1.0, unpaced=False, change=lambda decision: None)

    async def main() -> tuple[float, float]:
        steering.begin(device, None, Still())
        before = steering.forecast().latency_ms
        device.profile = replace(profile, preprocess=Timing(profile.preprocess.median_ms + 300.0, 500.0))
        running = asyncio.create_task(steering.run())
        for _ in range(1000):
            if steering.forecast().latency_ms != before:
                break
            await asyncio.sleep(0.01)
        running.cancel()
        return before, steering.forecast().latency_ms

    before, after = asyncio.run(main())
    device.close()
    assert after - before == pytest.approx(300.0)
