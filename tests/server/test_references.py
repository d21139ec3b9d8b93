"""What the server holds of a client's activations: per client, counted, and gone with it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from prometheus_client import generate_latest

from spinn_server.admin.metrics import Metrics
from spinn_server.work.request import Request
from spinn_server.work.scheduler import BatchLimits
from spinn_server.work.worker import TailEngine
from spinn_stream.bundle import Bundle
from spinn_stream.codec import CodecSetting, PayloadSender, transform
from spinn_stream.runtime import Engine
from spinn_stream.wire import Infer

from .owners import Told

SPLIT = 9
SETTING = CodecSetting(transform.NAME, 7)
NO_PICTURE = np.empty((0, 0, 3), np.uint8)
ANSWERED = "answered"


class Client:
    """One session's end of the wire: what it sends, and what it is told of each request."""

    def __init__(self, tail: TailEngine, activation: npt.NDArray[np.float32], bundle: Bundle) -> None:
        self._tail = tail
        self._activation = activation
        self._bundle = bundle
        self.told = Told()
        self.sender = PayloadSender(bundle)
        self.payloads: list[bytes] = []
        self.requests = 0
        tail.join(self.told)

    async def ask(self, *, acknowledge: bool = True) -> str:
        """Send the scene as it is by now; "answered", or the reason of the reject."""
        request, self.requests = self.requests, self.requests + 1
        noise = np.random.default_rng(request).normal(size=self._activation.shape) * 0.01
        x = (self._activation + noise).astype(np.float32)
        self.payloads.append(self.sender.encode(request, SPLIT, SETTING, x, NO_PICTURE))
        infer = Infer(request, SPLIT, transform.NAME, None, 10_000, self.payloads[-1])
        asked = Request.of(infer, self.told, self._bundle, time.monotonic())
        self._tail.submit(asked)
        await self.told.until(lambda: asked in self.told.answers or asked in self.told.refusals)
        if asked in self.told.refusals:
            return self.told.refusals[asked][0]
        if acknowledge:
            self.sender.acknowledge(request)
        return ANSWERED

    @property
    def kinds(self) -> str:
        """K for each key frame sent, C for each change."""
        return "".join("K" if transform.is_key(p) else "C" for p in self.payloads)


Test = Callable[[TailEngine, Callable[[], Client], Callable[[], float]], Awaitable[None]]


@pytest.fixture
def run(bundle: Bundle, engine: Engine, inputs: npt.NDArray[np.float32]) -> Callable[[Test], None]:
    head = engine.run(0, SPLIT, inputs[:1], exit=False)[0].copy()

    def run_with(test: Test) -> None:
        async def main() -> None:
            metrics = Metrics()
            tail = TailEngine(bundle, engine, BatchLimits(max_wait_ms=1), metrics)

            def held_bytes() -> float:
                lines = generate_latest(metrics.registry).decode().splitlines()
                return float(next(line for line in lines if line.startswith("spinn_reference_bytes{")).split()[1])

            serving = asyncio.create_task(tail.run())
            try:
                await test(tail, lambda: Client(tail, head, bundle), held_bytes)
                assert not serving.done()
            finally:
                serving.cancel()
                await asyncio.gather(serving, return_exceptions=True)

        asyncio.run(main())

    return run_with


def test_changes_are_answered_and_what_is_held_is_counted(run: Callable[[Test], None], bundle: Bundle) -> None:
    one = bundle.cut_points[SPLIT].elements * 2  # int16

    async def test(tail: TailEngine, join: Callable[[], Client], held: Callable[[], float]) -> None:
        assert held() == 0
        client, other = join(), join()
        assert [await client.ask() for _ in range(5)] == [ANSWERED] * 5
        assert client.kinds == "KCCCC"
        assert held() == 2 * one  # the last, and what it refers to
        assert await other.ask() == ANSWERED
        assert other.kinds == "K" and held() == 3 * one
        tail.forget(client.told)
        assert held() == one
        tail.forget(other.told)
        assert held() == 0

    run(test)


def test_a_reference_that_the_server_forgot_costs_one_request(run: Callable[[Test], None]) -> None:
    async def test(tail: TailEngine, join: Callable[[], Client], held: Callable[[], float]) -> None:
        client = join()
        assert [await client.ask() for _ in range(2)] == [ANSWERED] * 2
        tail._receivers[client.told].clear()
        assert await client.ask() == "no_reference"
        client.sender.reset()  # as the client does when it is told so
        assert [await client.ask() for _ in range(3)] == [ANSWERED] * 3
        assert client.kinds == "KCCKCC"

    run(test)


def test_clients_do_not_see_each_other_s_references(run: Callable[[Test], None]) -> None:
    async def test(tail: TailEngine, join: Callable[[], Client], held: Callable[[], float]) -> None:
        client, other = join(), join()
        assert await client.ask() == ANSWERED
        other.sender, other.requests = client.sender, client.requests  # its changes refer to what another one sent
        assert await other.ask() == "no_reference"
        assert await client.ask() == ANSWERED

    run(test)


def test_who_acknowledges_nothing_is_held_to_a_bound(run: Callable[[Test], None], bundle: Bundle) -> None:
    from spinn_stream.codec.stream import MAX_HELD_BYTES

    one = bundle.cut_points[SPLIT].elements * 2
    many = MAX_HELD_BYTES // one + 20

    async def test(tail: TailEngine, join: Callable[[], Client], held: Callable[[], float]) -> None:
        client = join()
        outcomes: list[Any] = [await client.ask(acknowledge=False) for _ in range(many)]
        assert outcomes == [ANSWERED] * many and set(client.kinds) == {"K"}
        assert MAX_HELD_BYTES - one < held() <= MAX_HELD_BYTES

    run(test)
