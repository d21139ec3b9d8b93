"""The pipeline with a real device: a plan changes while frames flow."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator

import numpy as np
import numpy.typing as npt
import pytest

from spinn_client.device.device import Device
from spinn_client.frames.feed import Feed, FeedConfig
from spinn_client.frames.ledger import Ledger
from spinn_client.frames.pipeline import Pipeline
from spinn_client.frames.results import Result
from spinn_client.sources.base import Picture
from spinn_client.steering.guide import Guide
from spinn_stream.bundle import Bundle
from spinn_stream.errors import EngineError
from spinn_stream.plan import Decision, Plan
from spinn_stream.profile import Profile
from spinn_stream.runtime import Engine

Pixels = npt.NDArray[np.uint8]
MOST = 2000  # frames, should the change never come


class Endless:
    """The same photograph until the pipeline has had enough."""

    name, live, fps = "endless", False, None

    def __init__(self, picture: Pixels) -> None:
        self._picture = picture

    def pictures(self) -> Iterator[Picture]:
        for _ in range(MOST):
            yield Picture(self._picture)

    def close(self) -> None: ...


class Consulted(Guide):
    """Says whether it was asked to decide."""

    runs = False

    async def run(self, captured: Callable[[], int], change: Callable[[Decision], object]) -> None:
        self.runs = True
        await super().run(captured, change)


def play(
    bundle: Bundle, device: Device, picture: Pixels, first: Plan, then: Plan | Guide, *, most: int = MOST
) -> list[Result]:
    """The final results of frames under one plan and, asked for at the third answer, another or another guide's.

    Ends some frames after the other plan is first seen in an answer, or after `most`.
    """
    results: list[Result] = []
    plan = then.plan if isinstance(then, Guide) else then

    async def main() -> None:
        feed = Feed(Endless(picture), FeedConfig(unpaced=True))

        def emit(result: Result) -> None:
            results.append(result)
            if len(results) == 3:
                if isinstance(then, Guide):
                    pipeline.use_guide(then)
                else:
                    pipeline.change_plan(then)
            if sum(r.plan == plan.id for r in results) == 3 or len(results) == most:
                feed.stop()

        pipeline = Pipeline(
            bundle, device, feed, Ledger(bundle.labels), Guide(first), None, deadline_ms=10_000, emit=emit
        )
        await asyncio.to_thread(device.prepare, first)
        await feed.open()
        await pipeline.run()
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


def test_another_guide_is_asked_from_then_on(
    bundle: Bundle, engine: Engine, profile: Profile, photographs: list[Pixels]
) -> None:
    then = Consulted(Plan(2, bundle.last, 0.0))
    device = Device(bundle, engine, profile)
    results = play(bundle, device, photographs[0], Plan(1, bundle.last, None), then)
    assert results[-1].plan == 2 and then.runs


class Refusing(Device):
    """Whose engine cannot build another plan's graphs."""

    async def build(self, plan: Plan) -> None:
        raise EngineError("no such kernel")


@pytest.mark.parametrize("runs", [False, True])
def test_a_plan_that_cannot_be_built_leaves_the_one_before_or_runs_in_the_graphs_there_are(
    bundle: Bundle, engine: Engine, profile: Profile, photographs: list[Pixels], runs: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr(Refusing, "runs", lambda self, plan: runs)
    then = Plan(2, bundle.last, 0.0)
    results = play(bundle, Refusing(bundle, engine, profile), photographs[0], Plan(1, bundle.last, None), then, most=40)
    assert {r.plan for r in results} == ({1, 2} if runs else {1})
    assert runs or len(results) >= 40


def test_a_plan_is_used_before_its_own_graphs_are_built_where_others_will_do(
    bundle: Bundle, engine: Engine, profile: Profile, photographs: list[Pixels]
) -> None:
    class Slow(Device):
        async def build(self, plan: Plan) -> None:
            await asyncio.Event().wait()  # until the pipeline ends

    results = play(
        bundle, Slow(bundle, engine, profile), photographs[0], Plan(1, bundle.last, None), Plan(2, bundle.last, 0.0)
    )
    assert [r.plan for r in results][-1] == 2
    assert {(r.plan, r.exit) for r in results} == {(1, bundle.exits[-1].name), (2, bundle.exits[0].name)}
