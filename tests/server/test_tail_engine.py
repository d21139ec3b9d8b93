"""The tail engine with a real network: who is answered by what, and what a fault costs."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from spinn_server.admin.metrics import Metrics
from spinn_server.work import worker
from spinn_server.work.request import Request
from spinn_server.work.scheduler import BatchLimits
from spinn_server.work.worker import TailEngine
from spinn_stream.bundle import Bundle
from spinn_stream.codec import PayloadReceiver, cnn_co
from spinn_stream.errors import EngineError
from spinn_stream.runtime import Answer, Engine, answers
from spinn_stream.wire import Infer

from .engines import Failing, Held, Poisoned, Prepared
from .owners import Told

Floats = npt.NDArray[np.float32]
SPLIT = 9


@dataclass
class Harness:
    """A tail engine, running, and a client of it. Others are there, so that batches wait for them."""

    engine: TailEngine
    bundle: Bundle
    payloads: list[bytes]
    metrics: Metrics = field(default_factory=Metrics)
    told: Told = field(default_factory=Told)

    def submit(self, id: int, image: int = 0, threshold: float | None = None, budget_ms: float = 10_000) -> Request:
        infer = Infer(id, SPLIT, cnn_co.NAME, threshold, budget_ms, self.payloads[image])
        request = Request.of(infer, self.told, self.bundle, time.monotonic())
        self.engine.submit(request)
        return request


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
            metrics = Metrics()
            tail = TailEngine(bundle, with_engine, limits or BatchLimits(), metrics)
            h = Harness(tail, bundle, payloads, metrics)
            for client in (h.told, *(Told() for _ in range(20))):
                tail.join(client)
            serving = asyncio.create_task(tail.run())
            try:
                await test(h)
                assert not serving.done()
            finally:
                serving.cancel()
                await asyncio.wait([serving])

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
        for id in range(8):
            h.submit(id, image=id % 4)
        await h.told.settled(8)
        for request, (exit_index, answer) in h.told.answers.items():
            assert bundle.exits[exit_index].name == answer.exit == "final"
            assert answer.label == expected[request.id % 4].label

    run(test, BatchLimits(max_batch_size=8, max_wait_ms=50))


def test_no_request_waits_for_a_graph_whatever_it_asks_for_first(
    bundle: Bundle, engine: Engine, inputs: Floats
) -> None:
    """Three at once at every cut point of a server that was just set up: it builds longer pieces beside them."""
    prepared = Prepared(engine)
    heads = [inputs]
    for cut in range(bundle.last - 1):
        heads.append(engine.run(cut, cut + 1, heads[-1], exit=False)[0].copy())
    expected = [answer.label for answer in whole(bundle, engine, inputs)["final"]]

    async def main() -> None:
        metrics = Metrics()
        tail = TailEngine(bundle, prepared, BatchLimits(max_batch_size=3, max_wait_ms=1000), metrics)
        tail.prepare(lambda done, total: None)
        told, id = Told(), 0
        for client in (told, *(Told() for _ in range(2))):
            tail.join(client)
        serving = asyncio.create_task(tail.run())
        async with asyncio.timeout(60):
            for cut in itertools.chain(range(1, bundle.last), itertools.repeat(SPLIT)):
                for image in range(3):
                    infer = Infer(id, cut, cnn_co.NAME, None, 60_000, cnn_co.encode(heads[cut][image]))
                    tail.submit(Request.of(infer, told, bundle, time.monotonic()))
                    id += 1
                await told.settled(id)
                if id > 3 * bundle.last and prepared.largest == 3:
                    break
        assert metrics.fused.labels(bundle.name)._value.get() > 0
        serving.cancel()
        await asyncio.wait([serving])
        answered = {request.id: answer.label for request, (_, answer) in told.answers.items()}
        right = sum(answered[n] == expected[n % 3] for n in range(id))
        assert not told.refusals and right >= 0.95 * id  # what is lost is the codec's

    asyncio.run(main())


def test_in_one_batch_each_request_stops_at_its_own_threshold(run: Callable[..., None], bundle: Bundle) -> None:
    behind = [e for e in bundle.exits if e.cut > SPLIT]

    async def test(h: Harness) -> None:
        h.submit(0, threshold=0.0)  # the first exit behind the split is always sure enough
        h.submit(1, threshold=1.0)
        h.submit(2, threshold=None)
        await h.told.settled(3)
        assert h.told.exits == {0: behind[0].name, 1: "final", 2: "final"}

    run(test, BatchLimits(max_batch_size=3, max_wait_ms=1000))


def test_an_engine_s_fault_that_does_not_come_back_costs_nobody(run: Callable[..., None], engine: Engine) -> None:
    failing = Failing(engine, EngineError("out of memory"))

    async def test(h: Harness) -> None:
        failing.failures = 1
        h.submit(0)
        h.submit(1)
        await h.told.settled(2)
        assert h.told.exits == {0: "final", 1: "final"}

    run(test, BatchLimits(max_batch_size=2, max_wait_ms=20), with_engine=failing)


@pytest.mark.parametrize("fails", [True, False], ids=["exception", "not a number"])
def test_poison_costs_its_own_request_alone(
    run: Callable[..., None], bundle: Bundle, engine: Engine, inputs: Floats, fails: bool
) -> None:
    expected = whole(bundle, engine, inputs)["final"]
    poisoned = Poisoned(engine, fails=fails)

    async def test(h: Harness) -> None:
        poisoned.poison = cnn_co.decode(h.payloads[1], bundle.cut_points[SPLIT].shape)[None]
        for id in range(4):
            h.submit(id, image=id)
        await h.told.settled(4)
        assert h.told.reasons == {1: "internal"}
        assert {r.id: answer.label for r, (_, answer) in h.told.answers.items()} == {
            id: expected[id].label for id in (0, 2, 3)
        }

    run(test, BatchLimits(max_batch_size=4, max_wait_ms=1000), with_engine=poisoned)


def test_requests_of_two_splits_meet_on_the_way(run: Callable[..., None], bundle: Bundle, engine: Engine) -> None:
    """One begins at the cut point of the next exit, where the others arrive who begin before it."""
    later = bundle.pieces(SPLIT, bundle.last)[0][1]
    x = np.zeros((1, *bundle.cut_points[later].shape), np.float32)

    async def test(h: Harness) -> None:
        h.submit(0)
        infer = Infer(1, later, cnn_co.NAME, None, 10_000, cnn_co.encode(x[0]))
        h.engine.submit(Request.of(infer, h.told, bundle, time.monotonic()))
        await h.told.settled(2)
        assert h.told.exits == {0: "final", 1: "final"}
        assert h.metrics.joined._value.get() >= 2

    run(test, BatchLimits(max_batch_size=8, max_wait_ms=100))


def test_cancelled_and_forgotten_requests_are_not_run(run: Callable[..., None]) -> None:
    async def test(h: Harness) -> None:
        cancelled = h.submit(0)
        h.submit(1)
        h.engine.cancel(cancelled)
        assert h.told.reasons == {0: "cancelled"}
        h.engine.cancel(cancelled)  # twice is once
        h.engine.forget(h.told)
        h.engine.join(h.told)
        h.submit(2)
        await h.told.settled(2)
        assert h.told.exits == {2: "final"} and h.told.reasons == {0: "cancelled"}

    run(test, BatchLimits(max_wait_ms=20))


def test_a_request_under_the_id_of_one_that_was_cancelled_while_it_ran_gets_its_own_answer(
    run: Callable[..., None], bundle: Bundle, engine: Engine, inputs: Floats
) -> None:
    expected = whole(bundle, engine, inputs)["final"]
    assert expected[0].label != expected[1].label
    held = Held(engine)

    async def test(h: Harness) -> None:
        first = h.submit(7, image=0)
        await asyncio.to_thread(held.running.wait, 20)
        h.engine.cancel(first)
        second = h.submit(7, image=1)
        held.let_go.set()
        await h.told.settled(2)
        assert h.told.refusals[first][0] == "cancelled"
        assert h.told.answers[second][1].label == expected[1].label

    run(test, BatchLimits(max_wait_ms=0), with_engine=held)


def test_a_full_queue_and_a_spent_budget_are_refused(run: Callable[..., None]) -> None:
    async def test(h: Harness) -> None:
        h.submit(0, budget_ms=0)
        h.submit(1)
        h.submit(2)
        assert h.told.reasons == {2: "overloaded"}
        await h.told.settled(3)
        assert h.told.reasons == {0: "expired", 2: "overloaded"} and h.told.exits == {1: "final"}

    run(test, BatchLimits(max_queue=2, max_wait_ms=20))


def test_a_payload_that_the_decoder_stumbles_over_costs_itself_alone(
    run: Callable[..., None], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    honest = PayloadReceiver.decode

    def stumbling(self: PayloadReceiver, request: int, split: int, codec: str, payload: bytes) -> Floats:
        if request == 0:
            raise IndexError("beyond the end")
        return honest(self, request, split, codec, payload)

    monkeypatch.setattr(PayloadReceiver, "decode", stumbling)

    async def test(h: Harness) -> None:
        h.submit(0)
        h.submit(1)
        await h.told.settled(2)
        assert h.told.reasons == {0: "internal"} and h.told.exits == {1: "final"}

    run(test, BatchLimits(max_batch_size=2, max_wait_ms=1000))
    assert [record.exc_info is not None for record in caplog.records] == [True]


def test_an_engine_that_does_not_run_any_more_ends_the_work_and_leaves_no_request_open(
    bundle: Bundle, engine: Engine, inputs: Floats
) -> None:
    failing = Failing(engine, RuntimeError("the device is gone"))
    failing.failures = 1_000
    head = engine.run(0, SPLIT, inputs[:1], exit=False)[0]

    async def main() -> None:
        tail = TailEngine(bundle, failing, BatchLimits(max_batch_size=1, max_wait_ms=0), Metrics())
        h = Harness(tail, bundle, [cnn_co.encode(head)])
        tail.join(h.told)
        for id in range(3):
            h.submit(id)
        with pytest.raises(EngineError, match="failing does not run any more: RuntimeError: the device is gone"):
            await tail.run()
        h.submit(3)
        assert h.told.reasons == dict.fromkeys(range(4), "internal")

    asyncio.run(main())


def test_an_engine_that_hangs_ends_the_work(
    bundle: Bundle, engine: Engine, inputs: Floats, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker, "STEP_TIMEOUT_S", 0.05)
    held = Held(engine)
    head = engine.run(0, SPLIT, inputs[:1], exit=False)[0]

    async def main() -> None:
        tail = TailEngine(bundle, held, BatchLimits(max_wait_ms=0), Metrics())
        h = Harness(tail, bundle, [cnn_co.encode(head)])
        tail.join(h.told)
        h.submit(0)
        with pytest.raises(EngineError, match="held has not finished a step of 1 within"):
            await tail.run()
        assert h.told.reasons == {0: "internal"}

    try:
        asyncio.run(main())
    finally:
        held.let_go.set()


def test_payloads_that_were_cancelled_before_they_were_decoded_do_not_pile_up(bundle: Bundle, engine: Engine) -> None:
    """Nothing is decoded meanwhile: the engine does not run."""

    async def main() -> None:
        tail = TailEngine(bundle, engine, BatchLimits(max_queue=4), Metrics())
        h = Harness(tail, bundle, [b"x"])
        tail.join(h.told)
        for id in range(100):
            tail.cancel(h.submit(id))
        assert set(h.told.reasons.values()) == {"cancelled"} and len(tail._undecoded) <= 8

    asyncio.run(main())
