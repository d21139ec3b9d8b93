"""A repeat exit in the plan table: what it saves, by arithmetic."""

from __future__ import annotations

import random

import pytest

from spinn_stream.plan import Conditions, EnergyRates, LinkState, PlanTable, build_table, predict
from spinn_stream.plan.predict.exits import CameraRates

from .made import made_bundle, made_profile

SHARE, LOST = 0.4, 0.005
COMPUTING = EnergyRates(1000.0, 0.0, 0.0)  # energy in mJ is then the busy time in ms


def tables(seed: int) -> tuple[PlanTable, PlanTable, float]:
    """Without repeats, with them, and the time to prepare a frame."""
    rng = random.Random(seed)
    bundle = made_bundle(rng)
    device, server = made_profile(rng, bundle), made_profile(rng, bundle)
    plain = build_table(bundle, device, server)
    return plain, build_table(bundle, device, server, rates=CameraRates(SHARE, LOST)), device.preprocess.median_ms


@pytest.mark.parametrize("seed", range(20))
def test_the_other_frames_go_as_before_and_the_repeated_ones_cost_their_preparation(seed: int) -> None:
    plain, repeats, prepare_ms = tables(seed)
    assert len(repeats) == len(plain) and repeats.reference == plain.reference
    assert (repeats.rescue_ms, repeats.rescue_accuracy) == (plain.rescue_ms, plain.rescue_accuracy)
    for name in ("split", "threshold", "setting", "size", "server"):
        assert getattr(repeats, name) == pytest.approx(getattr(plain, name)), name
    assert repeats.sent == pytest.approx((1 - SHARE) * plain.sent)
    alone = plain.sent == 0
    assert repeats.accuracy[alone] == pytest.approx(plain.accuracy[alone] - SHARE * LOST)
    assert (repeats.accuracy >= plain.accuracy - SHARE * LOST - 1e-9).all()  # coding hurts no more than what is sent
    now = Conditions(LinkState(20.0, 20.0), fps=1.0)
    before, after = (predict(t, now, COMPUTING).of("device_energy") for t in (plain, repeats))
    assert after == pytest.approx(SHARE * prepare_ms + (1 - SHARE) * before)


@pytest.mark.parametrize("seed", range(5))
def test_no_repeats_change_nothing(seed: int) -> None:
    rng = random.Random(seed)
    bundle = made_bundle(rng)
    profile = made_profile(rng, bundle)
    plain, none = build_table(bundle, profile, profile), build_table(bundle, profile, profile, rates=CameraRates())
    assert (plain.ways.ends == none.ways.ends).all() and (plain.accuracy == none.accuracy).all()


@pytest.mark.parametrize("seed", range(20))
def test_every_plan_is_predicted_to_be_quicker_and_to_send_less(seed: int) -> None:
    plain, repeats, prepare_ms = tables(seed)
    now = Conditions(LinkState(20.0, 20.0), fps=1.0)
    before, after = predict(plain, now), predict(repeats, now)
    assert (after.of("uplink") <= before.of("uplink") + 1e-9).all()
    latency = SHARE * prepare_ms + (1 - SHARE) * before.of("latency_ms")
    waits = plain.sent > 0  # for another message: of messages that come less evenly, but more rarely
    assert after.of("latency_ms")[~waits] == pytest.approx(latency[~waits])
    assert (after.of("latency_ms")[waits] <= latency[waits] * 1.01).all()
