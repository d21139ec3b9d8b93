"""Plans are made with what is known of both sides just now."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pytest

from spinn_client.device.camera_answers import CameraAnswers
from spinn_client.device.device import Device
from spinn_client.device.exit_audits import ExitAudits
from spinn_client.steering.guide import Asked
from spinn_client.steering.steering import REST_S, Steering
from spinn_stream.bundle import Bundle
from spinn_stream.codec import CodecSetting
from spinn_stream.plan import POLICIES, Figures, Plan, parse_sla
from spinn_stream.profile import Profile, Timing
from spinn_stream.repeat import DEFAULT_MOST_LOST, Repeats
from spinn_stream.runtime import Answer, Engine
from spinn_stream.runtime.machine.host import THIS_MACHINE


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
        for _ in range(1500):
            steering.coded(0, CodecSetting("jpeg", 95), round(1.5 * expected))
        return before, steering.forecast().bytes_up

    before, after = asyncio.run(main())
    device.close()
    assert after / before == pytest.approx(1.5, abs=0.01)


def forecasts(
    bundle: Bundle, engine: Engine, profile: Profile, answers: CameraAnswers, learn: Callable[[Plan], object],
    looks_at: Sequence[float],
) -> list[Figures]:  # fmt: skip
    """What is forecast with the first table, and after something was learned, when it is looked at at these times."""
    device, now = Device(bundle, engine, profile), [0.0]
    host = replace(THIS_MACHINE, clock=lambda: now[0])
    asked = Asked.of("spinn", "minimize latency_ms")  # early exits answer, however often they err

    async def main() -> list[Figures]:
        steering = Steering(
            bundle, asked, device, None, deadline_ms=1e6, fps=1.0, unpaced=False, answers=answers, host=host
        )
        found = [steering.forecast()]
        learn(steering.plan)
        for now[0] in looks_at:
            await steering._meet_profiles()
            found.append(steering.forecast())
        steering.close()
        return found

    figures = asyncio.run(main())
    device.close()
    return figures


def test_what_is_learned_makes_a_new_table_if_it_has_moved_and_not_too_often(
    bundle: Bundle, engine: Engine, profile: Profile
) -> None:
    """Of a camera that shows one picture, nearly all frames are repeats."""
    repeats, picture = Repeats(audit_rate=0.0), np.full((64, 64, 3), 100, np.uint8)

    def learn(plan: Plan) -> None:
        for frame in range(100):
            if repeats.look(frame, picture, 0.0).answer is None:
                repeats.answered(frame, Answer("final", 1, 0.9, ((1, 0.9),)))

    figures = forecasts(bundle, engine, profile, CameraAnswers(repeats), learn, (REST_S / 2, REST_S))
    before, too_soon, after = (f.latency_ms for f in figures)
    assert too_soon == before and after < 0.2 * before


def test_exits_that_err_more_than_the_tables_say_lose_accuracy_in_every_plan_that_uses_them(
    bundle: Bundle, engine: Engine, profile: Profile
) -> None:
    audits = ExitAudits(bundle, 0.05)

    def learn(plan: Plan) -> None:
        for frame in range(1000):
            audits.passed(frame, plan, Answer("block7", 4, 0.9, ((4, 0.9),)))
            audits.answered(frame, Answer("final", 3, 0.9, ((3, 0.9),)))

    figures = forecasts(bundle, engine, profile, CameraAnswers(audits=audits), learn, (REST_S,))
    before, after = (f.accuracy for f in figures)
    assert after < before - 0.1


def test_the_agreement_says_what_repeats_may_cost(bundle: Bundle, engine: Engine, profile: Profile) -> None:
    device, repeats = Device(bundle, engine, profile), Repeats()
    asked = Asked.of("spinn", "accuracy_drop <= 3%; minimize latency_ms")
    steering = Steering(
        bundle, asked, device, None, deadline_ms=1e6, fps=1.0, unpaced=False, answers=CameraAnswers(repeats)
    )
    assert repeats.most_lost == 0.03
    steering.agree(Asked.of("spinn", "accuracy_drop <= 0%; minimize latency_ms"), 2)
    assert repeats.most_lost == 0.0 and repeats.limit == 0.0
    steering.agree(Asked.of("spinn", "latency_ms <= 500; minimize device_energy"), 3)
    assert repeats.most_lost == DEFAULT_MOST_LOST
    steering.close()
    device.close()
