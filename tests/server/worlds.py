"""A running server with clients in memory, for tests."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest

from spinn_server.admin.metrics import Metrics
from spinn_server.carriers.asgi import Application
from spinn_server.server import Server, ServerConfig, largest_message
from spinn_server.work.scheduler import BatchLimits
from spinn_server.work.worker import TailEngine
from spinn_stream.bundle import Bundle
from spinn_stream.codec import cnn_co
from spinn_stream.profile import Profile
from spinn_stream.runtime import Engine
from spinn_stream.wire import Infer

from .asgi import AsgiClient
from .carriers import Client, MemoryCarrier

SPLIT = 9
BOTH_CARRIERS = pytest.mark.parametrize("over_asgi", [False, True], ids=["memory", "asgi"])
ONE_BY_ONE = BatchLimits(max_batch_size=1, max_wait_ms=0)


@dataclass
class World:
    """A running server, and what it can be asked.

    over_asgi: sessions come through an ASGI application.
    """

    server: Server
    running: asyncio.Task[None]
    bundle: Bundle
    payloads: list[bytes]
    metrics: Metrics
    over_asgi: bool
    tasks: list[asyncio.Task[None]] = field(default_factory=list)

    async def client(self) -> Client:
        """One that is welcome."""
        stranger = self.stranger()
        await stranger.greet(self.bundle)
        return stranger

    def stranger(self) -> Client:
        """One that has said nothing."""
        stranger: Client
        if self.over_asgi:
            application = Application(self.server, self.metrics, max_message_bytes=largest_message([self.bundle]))
            stranger = AsgiClient()
            self.tasks.append(asyncio.create_task(stranger.run(application)))
        else:
            stranger = MemoryCarrier()
            self.tasks.append(asyncio.create_task(self.server.serve(stranger)))
        return stranger

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
    *,
    over_asgi: bool = False,
    **config: Any,
) -> AsyncIterator[World]:
    """A server until the block ends; every session must have ended by then, and none of them badly."""
    metrics = Metrics()
    tail = TailEngine(bundle, engine, limits, metrics, profile)
    server = Server([tail], metrics, ServerConfig(batch=limits, **config))
    async with server.running() as running:
        world = World(server, running, bundle, payloads, metrics, over_asgi)
        yield world
    async with asyncio.timeout(20):
        await asyncio.gather(*world.tasks)
