"""A shaped link for tests: the shaper in a thread of its own, between a client process and a server process."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Iterator
from dataclasses import dataclass

from spinn_traces.shape.settings import Settings
from spinn_traces.shape.shaper import Shaper


@dataclass
class ShapedLink:
    """Connect to `port` instead of the server's."""

    port: int
    shaper: Shaper
    loop: asyncio.AbstractEventLoop

    def stall(self, stalled: bool) -> None:
        self.loop.call_soon_threadsafe(self.shaper.stall, stalled)


@contextlib.contextmanager
def shaped_link(server_port: int, *, mbps: float | None = None, delay_ms: float = 0.0) -> Iterator[ShapedLink]:
    """A link of `mbps` and `delay_ms` each way to the server, until the block ends."""
    settings = Settings(up_mbps=mbps, down_mbps=mbps, rtt_ms=2 * delay_ms)
    started = threading.Event()
    links: list[ShapedLink] = []
    stop: list[asyncio.Event] = []

    async def main() -> None:
        shaper = Shaper("127.0.0.1", server_port, settings)
        stop.append(asyncio.Event())
        async with shaper.listen("127.0.0.1", 0) as port:
            links.append(ShapedLink(port, shaper, asyncio.get_running_loop()))
            started.set()
            await stop[0].wait()

    thread = threading.Thread(target=asyncio.run, args=(main(),))
    thread.start()
    assert started.wait(10)
    try:
        yield links[0]
    finally:
        links[0].loop.call_soon_threadsafe(stop[0].set)
        thread.join(10)
