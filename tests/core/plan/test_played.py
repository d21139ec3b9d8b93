"""Quantiles and queues against what comes out when they are played."""

from __future__ import annotations

import random

import numpy as np
import pytest

from spinn_stream.plan import Conditions, LinkState, build_table, predict

from .made import made_bundle, made_profile
from .scalar import CODING, Scalar, sd, way

FRAMES = 20_000


def logistic(rng: np.random.Generator, mean: float, deviation: float, n: int) -> np.ndarray:
    return rng.logistic(mean, max(deviation, 1e-9) * np.sqrt(3) / np.pi, n)


@pytest.mark.parametrize("seed", range(6))
def test_95_of_100_frames_are_answered_within_what_is_predicted(seed: int) -> None:
    """Frames are played one by one: which exit, and every part of the way at random. None waits for another here."""
    rng = random.Random(seed)
    bundle = made_bundle(rng)
    device, server = made_profile(rng, bundle), made_profile(rng, bundle)
    scalar = Scalar(bundle, device, server)
    table = build_table(bundle, device, server)
    link = LinkState(rng.uniform(2, 50), rng.uniform(5, 50))
    prediction = predict(table, Conditions(link, fps=0.01))
    p95, mean = prediction.of("latency_ms.p95"), prediction.of("latency_ms")
    draw = np.random.default_rng(seed)
    for i in rng.sample(range(len(table)), 6):
        plan = scalar.plans[i]
        evaluated = [e.cut for e, n in zip(bundle.exits, plan.row.needed, strict=False) if n is not None]
        here = [e.cut for e in bundle.exits] if plan.threshold is None else evaluated
        sent_p95 = 0.0 if plan.payload is None else (plan.payload.bytes_p95 - plan.payload.bytes_mean) / 1.62335
        size = table.size[i]
        shares = table.ways.weights[:-1, table.way[i]].copy()
        answers = [e.cut in evaluated or e.cut == bundle.last for e in bundle.exits]
        carried = 0.0
        for k, share in enumerate(plan.row.share):
            carried += share
            shares[k], carried = (carried, 0.0) if answers[k] else (0.0, carried)
        ages = []
        for k, share in enumerate(shares / shares.sum()):
            n = round(FRAMES * share)
            cut = bundle.exits[k].cut
            ms, var = way(device, 0, min(cut, plan.split), here)
            age = logistic(draw, device.preprocess.median_ms + ms, np.sqrt(sd(device.preprocess) ** 2 + var), n)
            if cut > plan.split:
                assert plan.setting is not None
                ms, var = way(server, plan.split, cut, evaluated)
                n_values = bundle.cut_points[plan.split].elements / 1e6
                a, each, c, each_back = CODING[plan.setting.codec]
                encode, decode = a + each * n_values, c + each_back * n_values
                age += encode + decode + logistic(draw, ms, np.sqrt(var), n)
                age += 0.008 / link.up_mbps * logistic(draw, size, sent_p95, n) + link.rtt_ms
            ages.append(age)
        played = np.concatenate(ages)
        assert mean[i] == pytest.approx(played.mean(), rel=0.02)
        assert p95[i] == pytest.approx(np.percentile(played, 95), rel=0.05)


@pytest.mark.parametrize("seed", range(5))
def test_a_device_that_takes_the_newest_frame_is_as_late_and_as_fast_as_predicted(seed: int) -> None:
    """The device is played frame by frame, its times scattering by a tenth; nothing is sent."""
    rng = random.Random(100 + seed)
    bundle = made_bundle(rng)
    profile = made_profile(rng, bundle)
    table = build_table(bundle, profile, profile)
    alone = table.take(table.split == table.last)
    draw = np.random.default_rng(seed)
    for load in (0.3, 1.0, 2.0, 5.0):
        period = rng.uniform(0.4, 2.5) * float((alone.ways.weights * alone.ways.ends)[:, alone.way].sum(0).mean())
        now = Conditions(None, device_load=load, fps=1000 / period)
        prediction = predict(alone, now)
        for i in rng.sample(range(len(alone)), 2):
            way = alone.way[i]
            weights, ends = alone.ways.weights[:, way], alone.ways.ends[:, way]
            services = (
                load * ends[draw.choice(len(weights), 4000, p=weights / weights.sum())] * draw.uniform(0.9, 1.1, 4000)
            )
            free, last, ages = 0.0, -1, []
            for service in services:
                newest = max(int(free / period + 1e-9), last + 1)  # the newest frame there is, or the next one
                last, start = newest, max(free, newest * period)
                free = start + service
                ages.append(free - newest * period)
            mean, rate = float(np.mean(ages)), 1000 * len(ages) / free
            assert prediction.of("throughput_fps")[i] == pytest.approx(rate, rel=0.04)
            assert prediction.of("latency_ms")[i] == pytest.approx(mean, abs=0.15 * period + 0.02 * mean)
