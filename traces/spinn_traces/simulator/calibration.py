"""Measures what a simulation needs to know of this machine and no profile has: a short run of the real client."""

from __future__ import annotations

import asyncio
import itertools
import math
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence

import numpy as np
import uvloop

from spinn_client.device import Device
from spinn_client.feed import Feed, FeedConfig
from spinn_client.ledger import Ledger
from spinn_client.pipeline import Pipeline
from spinn_client.results import FrameResult
from spinn_stream.codec import PayloadReceiver, PayloadSender, default_setting
from spinn_stream.frame import Pixels, crop, normalise
from spinn_stream.model.bundle import Bundle
from spinn_stream.plan import Plan, Profile
from spinn_stream.runtime import Engine
from spinn_stream.runtime.host import Host, Step

from .costs import Costs

SAMPLES = 12
"""Pictures that costs are measured with, again and again."""

FRAMES, WARM_UP = 75, 15
DECODES = 30
LEAST_FPS = 10.0

DEADLINE_MS = 10_000.0

P95_SIGMAS = 1.645
"""The 95th percentile of a normal distribution, in standard deviations."""

MOST_SPREAD = 0.3
"""What was measured on a busy machine has no more than this."""


class _Pictures:
    """A source of a few pictures, over and over."""

    name = "pictures"

    def __init__(self, pictures: Sequence[Pixels], fps: float) -> None:
        self._pictures = pictures
        self.fps: float | None = fps

    def frames(self) -> Iterator[Pixels]:
        return itertools.cycle(self._pictures)

    def close(self) -> None: ...


class _StepTimes:
    """A pace that takes no time and remembers what each step took, ms."""

    def __init__(self) -> None:
        self.ms: defaultdict[Step, list[float]] = defaultdict(list)

    def __call__(self, step: Step, began: float) -> None:
        self.ms[step].append((time.monotonic() - began) * 1000)

    def median(self, step: Step) -> float:
        times = self.ms[step][WARM_UP:] or self.ms[step]
        return float(np.median(times)) if times else 0.0


def measure_costs(
    bundle: Bundle, engine: Engine, profile: Profile, pictures: Sequence[Pixels], plan: Plan, fps: float
) -> Costs:
    """The real client's pipeline without a server, at the source's rate, for FRAMES frames; medians.

    It runs the plan's head and codes what would be sent, then the tail; no exit answers, so that every part is seen.
    The pace that this finds for the tail is taken for the server's. Not to be called where an event loop runs.

    Args:
        pictures: (H, W, 3) uint8 BGR, as the source has them; the first SAMPLES are used.
        fps: at least LEAST_FPS is used, so that it ends.

    Raises:
        EngineError: the engine cannot run this bundle.
    """
    pictures, fps = pictures[:SAMPLES], max(LEAST_FPS, fps)
    asked = Plan(plan.id, plan.split, None, plan.codec)
    sends = plan.split < bundle.last
    codec = default_setting(bundle, plan.split, plan.codec).codec if sends else ""
    steps = _StepTimes()
    ages = uvloop.run(_play(bundle, engine, profile, pictures, asked, fps, steps))
    head, tail = bundle.pieces(0, plan.split), bundle.pieces(plan.split, bundle.last)

    def graphs(pieces: Sequence[tuple[int, int]]) -> tuple[float, float]:
        """What they took, and what the profile says, ms."""
        took = sum(steps.median(Step("graph", *piece, piece[1] in bundle.exit_at)) for piece in pieces)
        return took, profile.expected_ms(pieces, {stop for _, stop in pieces})

    (head_ms, head_expected), (tail_ms, tail_expected) = graphs(head), graphs(tail)
    prepared, coded = steps.median(Step("preprocess", 0)), steps.median(Step("encode", plan.split, codec=codec))
    jobs = 1 + sends
    beside = float(np.median(ages)) - prepared - coded - head_ms - tail_ms
    spread = math.log(max(1.0, float(np.percentile(ages, 95) / np.median(ages)))) / P95_SIGMAS
    head_pace = head_ms / head_expected if head_expected else None
    tail_pace = tail_ms / tail_expected if tail_expected else None
    return Costs(
        preprocess_ms=prepared,
        encode_ms={(plan.split, codec): coded} if sends else {},
        decode_ms={(plan.split, codec): _decode_ms(bundle, engine, pictures, asked, fps)} if sends else {},
        device_pace=head_pace or tail_pace or 1.0,
        server_pace=tail_pace or head_pace or 1.0,
        hand_over_ms=max(0.0, beside / (2 * jobs)),
        spread=min(spread, MOST_SPREAD),
    )


async def _play(
    bundle: Bundle,
    engine: Engine,
    profile: Profile,
    pictures: Sequence[Pixels],
    plan: Plan,
    fps: float,
    steps: _StepTimes,
) -> list[float]:
    """Ages of the answers, ms."""
    results: list[FrameResult] = []
    host = Host(pace=steps)
    device = Device(bundle, engine, profile, host=host)
    pipeline = Pipeline(
        bundle,
        Feed(_Pictures(pictures, fps), FeedConfig(max_frames=FRAMES)),
        Ledger(bundle.labels),
        deadline_ms=DEADLINE_MS,
        unpaced=False,
        keep_late=False,
        emit=results.append,
        host=host,
    )
    await asyncio.to_thread(device.prepare, plan)
    steps.ms.clear()
    try:
        await pipeline.run(device, plan)
    finally:
        device.close()
    ages = [result.age_ms for result in results]
    return ages[WARM_UP:] or ages  # on a busy machine most frames may be dropped


def _decode_ms(bundle: Bundle, engine: Engine, pictures: Sequence[Pixels], plan: Plan, fps: float) -> float:
    """Of one payload, at the source's rate, each referring to the one before where the codec does that."""
    setting = default_setting(bundle, plan.split, plan.codec)
    sender, receiver = PayloadSender(bundle), PayloadReceiver(bundle)
    taken = []
    due = time.monotonic()
    for request in range(DECODES):
        small = crop(pictures[request % len(pictures)], bundle.input.size)
        x = normalise(small, bundle.input)
        if plan.split:
            x = engine.run(0, plan.split, x, exit=False)[0].copy()
        payload = sender.encode(request, plan.split, setting, x, small)
        due += 1 / fps
        time.sleep(max(0.0, due - time.monotonic()))
        began = time.perf_counter()
        receiver.decode(request, plan.split, setting.codec, payload)
        taken.append((time.perf_counter() - began) * 1000)
        sender.acknowledge(request)
    return float(np.median(taken))
