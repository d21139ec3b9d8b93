"""The share of repeats to plan with, and what repeats may cost."""

from __future__ import annotations

import numpy as np
import pytest

from spinn_client.device.device import Device
from spinn_client.steering.exit_rates import REST_S
from spinn_client.steering.guide import Asked
from spinn_client.steering.repeat_share import RepeatShare
from spinn_client.steering.steering import Steering
from spinn_stream.bundle import Bundle
from spinn_stream.plan.predict.exit_shares import NO_REPEATS
from spinn_stream.profile import Profile
from spinn_stream.repeat import DEFAULT_MOST_LOST, Repeats
from spinn_stream.runtime import Answer, Engine

PICTURE = np.full((64, 64, 3), 100, np.uint8)
SURE = Answer("final", 1, 0.9, ((1, 0.9),))


def still(repeats: Repeats, frames: int, first: int = 0) -> None:
    """Frames of one picture; the first is run."""
    for frame in range(first, first + frames):
        if repeats.look(frame, PICTURE, 0.0).answer is None:
            repeats.answered(frame, SURE)


def test_without_a_repeat_exit_there_is_nothing_to_plan_with() -> None:
    assert RepeatShare(None).rates(0.0) == NO_REPEATS


def test_the_share_is_told_if_it_has_moved_and_not_too_often() -> None:
    repeats = Repeats(audit_rate=0.0)
    share = RepeatShare(repeats)
    assert share.rates(0.0) == NO_REPEATS
    still(repeats, 10)
    assert share.rates(0.0).share == pytest.approx(0.9, abs=0.01)
    told = share.rates(0.0)
    still(repeats, 100, first=10)  # 0.99 now, less than a step away
    assert share.rates(REST_S) == told
    for frame in range(1000, 1100):
        repeats.look(
            frame, np.full((64, 64, 3), frame % 2 * 200, np.uint8), 0.0
        )  # of which half is new and not answered
    assert share.rates(REST_S / 2) == told, "not so soon"
    assert share.rates(REST_S).share < told.share - 0.1


def test_the_agreement_says_what_repeats_may_cost(bundle: Bundle, engine: Engine, profile: Profile) -> None:
    device, repeats = Device(bundle, engine, profile), Repeats()
    asked = Asked.of("spinn", "accuracy_drop <= 3%; minimize latency_ms")
    steering = Steering(bundle, asked, device, None, deadline_ms=1e6, fps=1.0, unpaced=False, repeats=repeats)
    assert repeats.most_lost == 0.03
    steering.agree(Asked.of("spinn", "accuracy_drop <= 0%; minimize latency_ms"), 2)
    assert repeats.most_lost == 0.0 and repeats.limit == 0.0
    steering.agree(Asked.of("spinn", "latency_ms <= 500; minimize device_energy"), 3)
    assert repeats.most_lost == DEFAULT_MOST_LOST
    steering.close()
    device.close()
