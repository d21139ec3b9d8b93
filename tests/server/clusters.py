"""Replicas and an ingress's engine in one process, over real sockets, for tests."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field

from spinn_server.admin.metrics import Metrics
from spinn_server.carriers.websocket import listening
from spinn_server.cluster.engine import RemoteEngine
from spinn_server.cluster.messages import SUBPROTOCOL
from spinn_server.cluster.replica import DenseReceiver, Replica, largest_orders
from spinn_server.work.request import Request
from spinn_server.work.scheduler import BatchLimits
from spinn_server.work.worker import TailEngine
from spinn_stream.bundle import Bundle
from spinn_stream.codec import cnn_co
from spinn_stream.runtime import Engine
from spinn_stream.runtime.machine.host import Host
from spinn_stream.wire import Infer

from .owners import Told
from .worlds import SPLIT

SECRET = "sesame"


@dataclass
class RunningReplica:
    """A replica that can be killed and started again at its address."""

    bundle: Bundle
    engine: Engine
    limits: BatchLimits
    host: Host
    port: int = 0
    metrics: Metrics = field(default_factory=Metrics)
    _stack: AsyncExitStack = field(default_factory=AsyncExitStack)

    @property
    def address(self) -> str:
        return f"ws://127.0.0.1:{self.port}"

    async def start(self) -> None:
        tail = TailEngine(self.bundle, self.engine, self.limits, self.metrics, host=self.host, receiver=DenseReceiver)
        self.replica = Replica(tail, self.metrics, SECRET, host=self.host)
        running = asyncio.create_task(self.replica.run())
        address = await self._stack.enter_async_context(
            listening(
                "127.0.0.1", self.port, self.replica, tls=None, max_message_bytes=largest_orders(self.bundle),
                name="replica", metrics=self.metrics, subprotocol=SUBPROTOCOL, clock=self.host.clock,
            )
        )  # fmt: skip
        self.port = int(address.rpartition(":")[2])

        async def end() -> None:
            running.cancel()
            await asyncio.wait([running])

        self._stack.push_async_callback(end)

    async def stop(self) -> None:
        await self._stack.aclose()

    @property
    def open(self) -> int:
        """Tasks that it has."""
        return sum(len(link.open) for link in self.replica._links)


@dataclass
class Cluster:
    """An ingress's engine with its replicas. told: an owner that has joined."""

    bundle: Bundle
    engine: RemoteEngine
    replicas: list[RunningReplica]
    payloads: Sequence[bytes]
    listed: set[str]
    told: Told = field(default_factory=Told)

    def submit(
        self,
        id: int,
        image: int = 0,
        threshold: float | None = None,
        budget_ms: float = 10_000,
        told: Told | None = None,
    ) -> Request:
        infer = Infer(id, SPLIT, cnn_co.NAME, threshold, budget_ms, self.payloads[image])
        return self.ask(infer, told)

    def ask(self, infer: Infer, told: Told | None = None) -> Request:
        request = Request.of(infer, told or self.told, self.bundle, time.monotonic())
        self.engine.submit(request)
        return request

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(20):
            while not condition():  # noqa: ASYNC110  # nothing tells of it
                await asyncio.sleep(0.005)


@asynccontextmanager
async def cluster(
    bundle: Bundle,
    engines: Sequence[Engine],
    payloads: Sequence[bytes],
    limits: BatchLimits = BatchLimits(max_wait_ms=0),  # noqa: B008  # frozen
    host: Host = Host(),  # noqa: B008  # frozen
) -> AsyncIterator[Cluster]:
    """Until the block ends; afterwards no task is left.

    Args:
        engines: of each replica. host: of the replicas.
    """
    before = asyncio.all_tasks()
    replicas = [RunningReplica(bundle, engine, limits, host) for engine in engines]
    for replica in replicas:
        await replica.start()
    listed = {replica.address for replica in replicas}

    async def find() -> set[str]:
        return listed

    remote = RemoteEngine(bundle, None, Metrics(), find, SECRET)
    running = asyncio.create_task(remote.run())
    made = Cluster(bundle, remote, replicas, payloads, listed)
    try:
        await made.until(lambda: len(remote.replicas) == len(replicas))
        remote.join(made.told)
        yield made
        assert not running.done()
    finally:
        running.cancel()
        await asyncio.wait([running])
        for replica in replicas:
            await replica.stop()
    await made.until(lambda: asyncio.all_tasks() <= before)
