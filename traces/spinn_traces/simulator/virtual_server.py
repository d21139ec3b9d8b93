"""The server of a simulated system: its end of the link, its engine and its connections."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable

from websockets.exceptions import ConnectionClosed

from spinn_server.admin.metrics import Metrics
from spinn_server.carriers.base import CarrierClosed
from spinn_server.carriers.websocket import KEEPALIVE_S, KEEPALIVE_TIMEOUT_S
from spinn_server.server import Server, ServerConfig
from spinn_server.work.scheduler import BatchLimits
from spinn_server.work.worker import TailEngine
from spinn_stream.bundle import Bundle
from spinn_stream.runtime import Engine
from spinn_stream.trace import DIRECTIONS, FIELDS, Trace
from spinn_traces.shape.flow import Direction
from spinn_traces.shape.link_model import LinkModel
from spinn_traces.shape.settings import TRACE, Settings

from .side import Side, host_of
from .virtual_loop import VirtualLoop
from .virtual_socket import VirtualNetwork, VirtualWebSocket


class VirtualCarrier:
    """The server's end of a virtual connection; see `spinn_server.carriers.base.Carrier`."""

    peer = "virtual"

    def __init__(self, socket: VirtualWebSocket, clock: Callable[[], float]) -> None:
        self._socket = socket
        self._clock = clock

    async def recv(self) -> tuple[bytes, float]:
        try:
            return await self._socket.recv(), self._clock()
        except ConnectionClosed as error:
            raise CarrierClosed(str(error)) from error

    async def send(self, data: bytes) -> None:
        try:
            await self._socket.send(data)
        except ConnectionClosed as error:
            raise CarrierClosed(str(error)) from error

    async def close(self, code: int, reason: str) -> None:
        await self._socket.close(code, reason)

    def abort(self) -> None:
        self._socket.abort()


class VirtualServer:
    """Serves clients that dial `network`. Owns its tasks from `start` to `stop`.

    Args:
        trace: with every field (`Trace.filled`); it begins with `begin`, at `offset_s`. None: a link without limits.
    """

    def __init__(
        self,
        loop: VirtualLoop,
        bundle: Bundle,
        engine: Engine,
        side: Side,
        *,
        batch: BatchLimits,
        trace: Trace | None,
        offset_s: float,
        seed: int,
    ) -> None:
        self._trace = trace
        self._offset_s = offset_s
        self._settings = Settings().changed(
            {} if trace is None else dict.fromkeys(FIELDS, TRACE), has_trace=trace is not None
        )
        host = host_of(loop, bundle, side, random.Random(f"{seed}/server"))
        profile = side.profile.slowed(side.slowdown)
        self._metrics = Metrics()
        tail = TailEngine(bundle, engine, batch, self._metrics, profile, host=host)
        tail.prepare(lambda done, total: None)
        self._server = Server([tail], self._metrics, ServerConfig(batch=batch), host=host)
        self._clock = host.clock
        zero = loop.time() - offset_s
        self._directions = {
            name: Direction(LinkModel(self._settings.conditions(name, trace, zero), seed=seed, name=name), loop.clock)
            for name in DIRECTIONS
        }
        up, down = (self._directions[name] for name in DIRECTIONS)
        self.network = VirtualNetwork(up, down, self._serve, hop_s=side.costs.hop_ms / 1000)
        self._before = [0, 0]
        self.carrier_of: Callable[[VirtualWebSocket], VirtualCarrier] = lambda socket: VirtualCarrier(
            socket, self._clock
        )
        self._running: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._running = asyncio.create_task(self._server.run(), name="server")

    def begin(self, now: float) -> None:
        """The first frame: here the trace begins."""
        for name, direction in self._directions.items():
            direction.model.begin(now, self._settings.conditions(name, self._trace, now - self._offset_s))
            direction.run(now)
        self._before = [direction.delivered_bytes for direction in self._directions.values()]

    def impose(self, settings: Settings, *, answers_stall: bool = False) -> None:
        """Let the link be like this from now on; a trace is not played any more. answers_stall: nothing comes back."""
        now = self._clock()
        for name, direction in self._directions.items():
            stalled = settings.stall or (answers_stall and name == DIRECTIONS[1])
            direction.model.change(now, settings.conditions(name, None, now), stalled=stalled)
            direction.run(now)

    def delivered_bytes(self) -> tuple[int, int]:
        """Up and down, since `begin`."""
        up, down = (d.delivered_bytes - b for d, b in zip(self._directions.values(), self._before, strict=True))
        return up, down

    def compute_ms(self) -> float:
        """Time that the engine spent on batches."""
        samples = next(iter(self._metrics.compute.collect())).samples
        return 1000 * next(s.value for s in samples if s.name.endswith("_sum"))

    async def stop(self) -> None:
        await self.network.close()
        if self._running is not None:
            self._running.cancel()
            await asyncio.wait([self._running])
            if not self._running.cancelled():
                self._running.result()
        for direction in self._directions.values():
            direction.close()

    async def _serve(self, socket: VirtualWebSocket) -> None:
        watch = asyncio.create_task(socket.keep_alive(KEEPALIVE_S, KEEPALIVE_TIMEOUT_S))
        try:
            await self._server.serve(self.carrier_of(socket))
        finally:
            watch.cancel()
            socket.abort()
