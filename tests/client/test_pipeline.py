"""The pipeline with a real device: a plan changes while frames flow."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from spinn_client.device import Device
from spinn_client.feed import Feed, FeedConfig
from spinn_client.ledger import Ledger
from spinn_client.pipeline import Pipeline
from spinn_client.results import FrameResult
from spinn_stream.errors import EngineError
from spinn_stream.model.bundle import Bundle
from spinn_stream.plan import Plan, Profile
from spinn_stream.runtime import Engine

Pixels = npt.NDArray[np.uint8]
MOST = 2000  # frames, should the change never come


class Endless:
    """The same photograph until the pipeline has had enough."""

    name, fps = "endless", None

    def __init__(self, picture: Pixels) -> None:
        self._picture = picture

    def frames(self) -> Iterator[Pixels]:
        for _ in range(MOST):
            yield self._picture

    def close(self) -> None: ...


def play(bundle: Bundle, device: Device, picture: Pixels, first: Plan, then: Plan) -> list[FrameResult]:
    """The final results of frames under one plan and, asked for at the third answer, another.

    Ends some frames after the other plan is first seen in an answer.
    """
    results: list[FrameResult] = []

    async def main() -> None:
        feed = Feed(Endless(picture), FeedConfig(unpaced=True))

        def emit(result: FrameResult) -> None:
            results.append(result)
            if len(results) == 3:
                pipeline.change_plan(then)
            if sum(r.plan == then.id for r in results) == 3 or (then.split > bundle.last and len(results) == 40):
                feed.stop()

        ledger = Ledger(bundle.labels)
        pipeline = Pipeline(bundle, feed, ledger, deadline_ms=10_000, unpaced=True, keep_late=False, emit=emit)
        await asyncio.to_thread(device.prepare, first)
        await pipeline.run(device, first)
        device.close()

    asyncio.run(main())
    return results


def test_frames_flow_under_the_old_plan_until_the_new_one_is_built(
    bundle: Bundle, engine: Engine, profile: Profile, photographs: list[Pixels]
) -> None:
    results = play(
        bundle, Device(bundle, engine, profile), photographs[0], Plan(1, bundle.last, None), Plan(2, bundle.last, 0.0)
    )
    plans = [r.plan for r in results]
    assert plans == sorted(plans) and set(plans) == {1, 2}
    assert [r.frame for r in results] == list(range(len(results))), "a frame was lost or answered twice"
    assert {(r.plan, r.exit) for r in results} == {(1, bundle.exits[-1].name), (2, bundle.exits[0].name)}


def test_a_plan_that_cannot_be_built_leaves_the_one_before(
    bundle: Bundle, engine: Engine, profile: Profile, photographs: list[Pixels]
) -> None:
    class Refusing(Device):
        async def build(self, plan: Plan) -> None:
            raise EngineError("no such kernel")

    then = Plan(2, bundle.last + 1, None)
    results = play(bundle, Refusing(bundle, engine, profile), photographs[0], Plan(1, bundle.last, None), then)
    assert len(results) >= 40 and {r.plan for r in results} == {1}
