"""A stream, its servers and their links in virtual time, for faults to be made in.

All of it is the client's and the server's own code (docs/simulator.md). A fault is a coroutine that changes the
world while frames flow.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from spinn_client import DeviceConfig, Event, FeedConfig, LinkConfig, Result, Stream
from spinn_client.parts import Parts
from spinn_client.steering.guide import Asked
from spinn_server.work.scheduler import BatchLimits
from spinn_stream.bundle import Bundle
from spinn_stream.errors import ServerUnreachable
from spinn_stream.frame import Pixels
from spinn_stream.plan import Plan
from spinn_stream.profile import BatchProfile, Profile, Timing
from spinn_stream.runtime import Engine
from spinn_traces.shape.settings import Settings
from spinn_traces.simulator import Costs, Side
from spinn_traces.simulator.costs import CostedPace
from spinn_traces.simulator.feed import VirtualFeed
from spinn_traces.simulator.side import host_of
from spinn_traces.simulator.virtual_loop import VirtualLoop, run_virtually
from spinn_traces.simulator.virtual_server import VirtualCarrier, VirtualServer

DEADLINE_MS = 150.0
ALLOWED_MS = 20.0
FPS = 30.0
SEGMENT_MS, EXIT_MS, CALL_MS = 1.0, 0.5, 0.25
COSTS = Costs(preprocess_ms=0.5, hand_over_ms=0.05)

Tamper = Callable[[bytes], Awaitable[Sequence[bytes]]]
"""What is sent instead of a server's message."""


def profile_of(bundle: Bundle) -> Profile:
    """Every segment takes the same; batches take as long for each as one alone."""
    cuts = tuple(e.cut for e in bundle.exits[:-1])
    rows = tuple(
        BatchProfile(
            batch,
            (Timing(batch * SEGMENT_MS, batch * SEGMENT_MS),) * bundle.last,
            (Timing(batch * EXIT_MS, batch * EXIT_MS),) * len(cuts),
            CALL_MS,
        )
        for batch in (1, 16)
    )
    return Profile("numbers", cuts, rows, Timing(COSTS.preprocess_ms, COSTS.preprocess_ms))


class _Tampering(VirtualCarrier):
    """Sends what `tamper` makes of each message."""

    def __init__(self, carrier: Any, clock: Callable[[], float], server: FaultyServer) -> None:
        super().__init__(carrier, clock)
        self._server = server

    async def send(self, data: bytes) -> None:
        for message in [data] if self._server.tamper is None else await self._server.tamper(data):
            await super().send(message)


class FaultyServer:
    """A server behind a link of its own, both of which can be made to fail.

    tamper: what becomes of its messages; None: nothing. closes_at_once: sessions end as soon as they begin.
    """

    def __init__(self, loop: VirtualLoop, bundle: Bundle, engine: Engine, link: Settings, slowdown: float) -> None:
        self._loop, self._bundle, self._engine = loop, bundle, engine
        self._side = Side(profile_of(bundle), COSTS, slowdown=slowdown)
        self.link = link
        self.tamper: Tamper | None = None
        self.closes_at_once = self.dead = False
        self.dialled = 0
        self._connections: list[Any] = []
        self._start(bundle)

    def _start(self, bundle: Bundle) -> None:
        server = VirtualServer(
            self._loop, bundle, self._engine, self._side,
            batch=BatchLimits(max_wait_ms=0), trace=None, offset_s=0.0, seed=0,
        )  # fmt: skip
        server.carrier_of = lambda socket: _Tampering(socket, self._loop.clock, self)
        server.start()
        self._server = server
        self.impose()

    def impose(self, *, answers_stall: bool = False, **changes: Any) -> None:
        """Change the link's settings. answers_stall: nothing comes back."""
        self.link = replace(self.link, **changes)
        self._server.impose(self.link, answers_stall=answers_stall)

    def reset(self) -> None:
        """End every connection, whatever is on its way."""
        for websocket in self._connections:
            websocket.abort()
        self._connections.clear()

    async def dial(self, url: str, tls_ca: Path | None, most: int) -> Any:
        """As `spinn_client.link.dial.dial`."""
        self.dialled += 1
        if self.dead:
            await asyncio.sleep(self.link.rtt_ms / 1000 if isinstance(self.link.rtt_ms, float) else 0.0)
            raise ServerUnreachable(f"cannot reach {url}: it refuses connections")
        websocket = await self._server.network.dial(url, tls_ca, most)
        self._connections.append(websocket)
        if self.closes_at_once:
            self._loop.call_later(0.01, websocket.abort)
        return websocket

    async def kill(self) -> None:
        """As kill -9: its sockets are closed by the kernel, and nobody listens."""
        self.dead = True
        await self._server.stop()

    def restart(self, bundle: Bundle | None = None) -> None:
        """It listens again, and remembers nothing. bundle: it has another one now."""
        self.dead = False
        self._start(bundle or self._bundle)

    def compute_ms(self) -> float:
        """What the engine spent on batches."""
        return self._server.compute_ms()

    async def stop(self) -> None:
        if not self.dead:
            await self._server.stop()


@dataclass(frozen=True)
class Case:
    """A stream under a fault.

    device_slowdown: 4 lets the first exit take 56 ms, less than half of the deadline. plan: as of `Stream`.
    links, server_slowdown: of each server. servers: their configuration, one by default. repeat, audit_rate: as of
    `DeviceConfig`.
    """

    plan: Plan | Asked
    frames: int = 300
    fps: float | None = FPS
    deadline_ms: float = DEADLINE_MS
    device_slowdown: float = 4.0
    server_slowdown: float = 1.0
    links: tuple[Settings, ...] = (Settings(up_mbps=20.0, down_mbps=20.0, rtt_ms=30.0),)
    servers: tuple[LinkConfig, ...] = ()
    repeat: bool | None = None
    audit_rate: float = 0.5


@dataclass
class World:
    """What a fault changes, and what came of it."""

    loop: VirtualLoop
    servers: list[FaultyServer]
    device: CostedPace
    results: list[tuple[float, Result]] = field(default_factory=list)
    events: list[Event] = field(default_factory=list)
    captured: int = 0
    taken: int = 0
    dropped: dict[str, int] = field(default_factory=dict)
    began: float = 0.0

    @property
    def now(self) -> float:
        """Seconds since the first frame."""
        return self.loop.time() - self.began

    @property
    def finals(self) -> list[tuple[float, Result]]:
        return [(at, result) for at, result in self.results if result.kind == "final"]

    @property
    def missed(self) -> int:
        """Frames without a final result, or with one that is too late."""
        late = sum(r.age_ms > DEADLINE_MS + ALLOWED_MS for _, r in self.finals)
        return self.taken - len({r.frame for _, r in self.finals}) + late

    @property
    def duplicates(self) -> int:
        return len(self.finals) - len({r.frame for _, r in self.finals})

    @property
    def no_answer(self) -> int:
        return sum(r.label is None for _, r in self.finals)

    @property
    def answers(self) -> int:
        """Labelled final results."""
        return len(self.finals) - self.no_answer

    def by_server(self, after: float = 0.0, url: str | None = None) -> list[float]:
        """When answers of servers, or of that one, came after a time."""
        return [at for at, r in self.finals if at > after and r.where == "server" and url in (None, r.server)]

    def recovery_s(self, healthy: float, url: str | None = None) -> float | None:
        """From a time on until a server, or that one, answered; None: it never did."""
        return next((at - healthy for at in self.by_server(healthy, url)), None)


Fault = Callable[[World], Awaitable[None]]


async def nothing(world: World) -> None:
    """No fault."""


def url_of(index: int) -> str:
    return f"ws://server-{index}"


def play(case: Case, bundle: Bundle, engine: Engine, pictures: Sequence[Pixels], fault: Fault = nothing) -> World:
    """Simulate it to the end. Raises what the fault raises."""
    loop = VirtualLoop()
    return run_virtually(loop, _played(loop, case, bundle, engine, pictures, fault))


async def _played(
    loop: VirtualLoop, case: Case, bundle: Bundle, engine: Engine, pictures: Sequence[Pixels], fault: Fault
) -> World:
    servers = [FaultyServer(loop, bundle, engine, link, case.server_slowdown) for link in case.links]
    side = Side(profile_of(bundle), COSTS, slowdown=case.device_slowdown)
    host = host_of(loop, bundle, side, random.Random("device"))
    assert isinstance(host.pace, CostedPace)
    world = World(loop, servers, host.pace)
    running: list[asyncio.Task[None]] = []

    def begin() -> None:
        world.began = loop.time()
        running.append(asyncio.create_task(_as_task(fault, world), name="fault"))

    async def dial(url: str, tls_ca: Path | None, most: int) -> Any:
        return await servers[int(url.rpartition("-")[2])].dial(url, tls_ca, most)

    def picture(frame: int) -> Pixels | None:
        return pictures[frame % len(pictures)] if frame < case.frames else None

    feed = VirtualFeed(picture, case.fps, loop.clock, begin)
    configs = case.servers or tuple(LinkConfig(url_of(index)) for index in range(len(servers)))
    stream = Stream(
        "pictures",
        server=[replace(config, allow_offline=True) for config in configs if servers],
        deadline_ms=case.deadline_ms,
        plan=case.plan,
        feed=FeedConfig(unpaced=True) if case.fps is None else FeedConfig(fps=case.fps),
        device=DeviceConfig(bundle, repeat=case.repeat, audit_rate=case.audit_rate),
        on_result=lambda result: world.results.append((world.now, result)),
        on_event=world.events.append,
        parts=Parts(
            host=host, dial=dial, rng=random.Random("backoff"),
            engine=(engine, side.profile.slowed(case.device_slowdown)), feed=lambda: feed,
        ),
    )  # fmt: skip
    try:
        async with stream:
            await stream.ended()
            if stream.error is not None:
                raise stream.error
            state = stream.state
        for task in running:
            if task.done():
                task.result()
            task.cancel()
    finally:
        for server in servers:
            await server.stop()
    world.captured, world.taken, world.dropped = state.captured, state.taken, dict(state.dropped)
    return world


async def _as_task(fault: Fault, world: World) -> None:
    await fault(world)
