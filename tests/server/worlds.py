"""A running server with clients in memory, for tests."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from spinn_server.admin.metrics import Metrics
from spinn_server.server import Server, ServerConfig
from spinn_server.work.scheduler import BatchLimits
from spinn_server.work.worker import TailEngine
from spinn_stream.bundle import Bundle
from spinn_stream.codec import cnn_co
from spinn_stream.profile import Profile
from spinn_stream.runtime import Engine
from spinn_stream.wire import Infer

from .carriers import MemoryCarrier

SPLIT = 9
ONE_BY_ONE = BatchLimits(max_batch_size=1, max_wait_ms=0)


@dataclass
class World:
    """A running server, and what it can be asked."""

    server: Server
    running: asyncio.Task[None]
    bundle: Bundle
    payloads: list[bytes]
    metrics: Metrics
    tasks: list[asyncio.Task[None]] = field(default_factory=list)

    async def client(self) -> MemoryCarrier:
        """One that is welcome."""
        carrier = self.stranger()
        await carrier.greet(self.bundle)
        return carrier

    def stranger(self) -> MemoryCarrier:
        """One that has said nothing."""
        carrier = MemoryCarrier()
        self.tasks.append(asyncio.create_task(self.server.serve(carrier)))
        return carrier

    def infer(self, id: int, image: int = 0, budget_ms: float = 10_000, split: int = SPLIT) -> Infer:
        return Infer(id, split, cnn_co.NAME, None, budget_ms, self.payloads[image])

    def http(self, path: str) -> tuple[int, str]:
        answer = self.server.answer(path)
        assert answer is not None
        return answer.status, answer.body

    def total(self, name: str) -> float:
        """A counter or gauge of /metrics, added up over its labels."""
        found = [
            s.value for m in self.metrics.registry.collect() for s in m.samples if s.name in (name, f"{name}_total")
        ]
        return sum(found)

    def balances(self) -> bool:
        """Whether every request received has one outcome or is open."""
        outcomes = ("answers", "rejects", "cancelled", "abandoned", "open_requests")
        return self.total("spinn_requests") == sum(self.total(f"spinn_{name}") for name in outcomes)


Worlds = Callable[..., AbstractAsyncContextManager[World]]
"""As `running_world`, whose payloads are there already."""


@asynccontextmanager
async def running_world(
    bundle: Bundle,
    engine: Engine,
    payloads: list[bytes],
    limits: BatchLimits = ONE_BY_ONE,
    profile: Profile | None = None,
    **config: Any,
) -> AsyncIterator[World]:
    """A server until the block ends; every session must have ended by then, and none of them badly."""
    metrics = Metrics()
    tail = TailEngine(bundle, engine, limits, metrics, profile)
    server = Server([tail], metrics, ServerConfig(batch=limits, **config))
    async with server.running() as running:
        world = World(server, running, bundle, payloads, metrics)
        yield world
    async with asyncio.timeout(20):
        await asyncio.gather(*world.tasks)
