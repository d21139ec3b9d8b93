"""The tail engine with a real network: who is answered by what, and what a fault costs."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from spinn_server.admin.metrics import Metrics
from spinn_server.work.scheduler import BatchLimits
from spinn_server.work.worker import TailEngine
from spinn_stream.bundle import Bundle
from spinn_stream.codec import cnn_co
from spinn_stream.errors import EngineError
from spinn_stream.runtime import Answer, Engine, ExitOutput, answers
from spinn_stream.wire import Infer

Floats = npt.NDArray[np.float32]
SPLIT = 9


@dataclass
class Outcomes:
    """What the engine said, by request."""

    answered: dict[int, tuple[int, Answer]] = field(default_factory=dict)
    refused: dict[int, str] = field(default_factory=dict)


@dataclass
class Harness:
    """A tail engine, running, and what it said so far."""

    engine: TailEngine
    outcomes: Outcomes
    payloads: list[bytes]
    changed: asyncio.Event = field(default_factory=asyncio.Event)

    def submit(self, request: int, image: int = 0, threshold: float | None = None, budget_ms: float = 10_000) -> None:
        def answer(exit_index: int, found: Answer) -> None:
            self.outcomes.answered[request] = (exit_index, found)
            self.changed.set()

        def refuse(reason: str, detail: str) -> None:
            self.outcomes.refused[request] = reason
            self.changed.set()

        infer = Infer(request, SPLIT, cnn_co.NAME, threshold, budget_ms, self.payloads[image])
        self.engine.submit((0, request), infer, time.monotonic(), answer=answer, refuse=refuse)

    async def settled(self, count: int) -> Outcomes:
        """Once so many requests were answered or refused."""
        async with asyncio.timeout(20):
            while len(self.outcomes.answered) + len(self.outcomes.refused) < count:
                self.changed.clear()
                await self.changed.wait()
        return self.outcomes


@pytest.fixture
def run(bundle: Bundle, engine: Engine, inputs: Floats) -> Callable[..., None]:
    """Runs a test's coroutine with a harness around the given engine (the real one by default)."""
    heads = inputs
    for start, stop in bundle.pieces(0, SPLIT):
        heads, _ = engine.run(start, stop, heads)
    payloads = [cnn_co.encode(head) for head in heads]

    def run_with(
        test: Callable[[Harness], Coroutine[Any, Any, None]],
        limits: BatchLimits | None = None,
        with_engine: Any = engine,
    ) -> None:
        async def main() -> None:
            tail = TailEngine(bundle, with_engine, limits or BatchLimits(), Metrics())
            serving = asyncio.create_task(tail.run())
            try:
                await test(Harness(tail, Outcomes(), payloads))
                assert not serving.done()
            finally:
                serving.cancel()
                await asyncio.gather(serving, return_exceptions=True)

        asyncio.run(main())

    return run_with


def whole(bundle: Bundle, engine: Engine, x: Floats) -> dict[str, list[Answer]]:
    """Every exit's answers for a batch of inputs."""
    found = {}
    for start, stop in bundle.pieces(0, bundle.last):
        x, output = engine.run(start, stop, x)
        assert output is not None
        exit_ = bundle.exit_at[stop]
        found[exit_.name] = answers(exit_.name, output, exit_.temperature)
    return found


def test_without_a_threshold_the_final_exit_answers_each_its_own(
    run: Callable[..., None], bundle: Bundle, engine: Engine, inputs: Floats
) -> None:
    expected = whole(bundle, engine, inputs)["final"]

    async def test(h: Harness) -> None:
        for request in range(8):
            h.submit(request, image=request % 4)
        outcomes = await h.settled(8)
        for request, (exit_index, answer) in outcomes.answered.items():
            assert bundle.exits[exit_index].name == answer.exit == "final"
            assert answer.label == expected[request % 4].label

    run(test, BatchLimits(max_batch_size=8, max_wait_ms=50))


def test_in_one_batch_each_request_stops_at_its_own_threshold(
    run: Callable[..., None], bundle: Bundle, engine: Engine, inputs: Floats
) -> None:
    behind = [e for e in bundle.exits if e.cut > SPLIT]

    async def test(h: Harness) -> None:
        h.submit(0, threshold=0.0)  # the first exit behind the split is always sure enough
        h.submit(1, threshold=1.0)
        h.submit(2, threshold=None)
        outcomes = await h.settled(3)
        assert outcomes.answered[0][1].exit == behind[0].name
        assert outcomes.answered[1][1].exit == outcomes.answered[2][1].exit == "final"

    run(test, BatchLimits(max_batch_size=3, max_wait_ms=1000))


class Faulty:
    """The real engine, but its first run fails."""

    name = "faulty"

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._failed = False

    def prepare(self, start: int, stop: int, *, exit: bool = True, batches: bool = False) -> None:
        self._engine.prepare(start, stop, exit=exit)

    def ready(self, start: int, stop: int, *, exit: bool = True) -> bool:
        return self._engine.ready(start, stop, exit=exit)

    def drop(self, start: int, stop: int, *, exit: bool = True) -> None:
        self._engine.drop(start, stop, exit=exit)

    def run(self, start: int, stop: int, x: Floats, *, exit: bool = True) -> tuple[Floats, ExitOutput | None]:
        if not self._failed:
            self._failed = True
            raise EngineError("out of memory")
        return self._engine.run(start, stop, x, exit=exit)


def test_an_engine_s_fault_costs_its_batch_and_nothing_more(run: Callable[..., None], engine: Engine) -> None:
    async def test(h: Harness) -> None:
        h.submit(0)
        h.submit(1)
        assert (await h.settled(2)).refused == {0: "internal", 1: "internal"}
        h.submit(2)
        assert 2 in (await h.settled(3)).answered

    run(test, BatchLimits(max_batch_size=2, max_wait_ms=1000), with_engine=Faulty(engine))


def test_cancelled_and_forgotten_requests_are_not_run(run: Callable[..., None]) -> None:
    async def test(h: Harness) -> None:
        h.submit(0)
        h.submit(1)
        h.engine.cancel((0, 0))
        assert h.outcomes.refused == {0: "cancelled"}
        h.engine.cancel((0, 0))  # twice is once
        h.engine.forget(0)
        h.submit(2)
        outcomes = await h.settled(2)
        assert outcomes.answered.keys() == {2} and outcomes.refused.keys() == {0}

    run(test, BatchLimits(max_wait_ms=20))


def test_a_full_queue_and_a_spent_budget_are_refused(run: Callable[..., None]) -> None:
    async def test(h: Harness) -> None:
        h.submit(0, budget_ms=0)
        h.submit(1)
        h.submit(2)
        assert h.outcomes.refused == {2: "overloaded"}
        outcomes = await h.settled(3)
        assert outcomes.refused == {0: "expired", 2: "overloaded"} and outcomes.answered.keys() == {1}

    run(test, BatchLimits(max_queue=2, max_wait_ms=20))
