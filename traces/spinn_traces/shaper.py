"""A TCP proxy that imposes capacity, delay and stalls on any connection. Needs no root."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from spinn_stream.errors import ConfigError

from .link_model import Conditions, LinkModel

CHUNK_BYTES = 4096
QUEUE_CHUNKS = 32
"""A direction holds at most this many chunks (128 KiB); beyond that it stops reading, and the sender feels it."""

SOCKET_BUFFER_BYTES = 32 * 1024


class Shaper:
    """Owns its connections. `up` and `down` may be replaced at any time; bytes already scheduled keep their times."""

    def __init__(self, target_host: str, target_port: int, *, up: Conditions, down: Conditions) -> None:
        self._target = (target_host, target_port)
        self.up = up
        self.down = down
        self._flowing = asyncio.Event()
        self._flowing.set()
        self._connections: set[asyncio.Task[None]] = set()

    def stall(self, stalled: bool) -> None:
        """Hold back everything in both directions, or let it go again."""
        if stalled:
            self._flowing.clear()
        else:
            self._flowing.set()

    @asynccontextmanager
    async def listen(self, host: str, port: int) -> AsyncIterator[int]:
        """Accept connections inside the block; gives the port.

        Raises:
            ConfigError: the address cannot be listened on.
        """
        try:
            server = await asyncio.start_server(self._accept, host, port, limit=CHUNK_BYTES)
        except OSError as error:
            raise ConfigError(f"cannot listen on {host}:{port}: {error.strerror or error}") from error
        try:
            yield server.sockets[0].getsockname()[1]
        finally:
            server.close()
            for task in self._connections:
                task.cancel()
            await asyncio.gather(*self._connections, return_exceptions=True)

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(self._connect(reader, writer))
        self._connections.add(task)
        task.add_done_callback(self._connections.discard)

    async def _connect(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            there = await asyncio.open_connection(*self._target, limit=CHUNK_BYTES)
        except OSError:
            writer.transport.abort()
            return
        for end in (writer, there[1]):
            _shrink(end)
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._direction(reader, there[1], up=True))
                group.create_task(self._direction(there[0], writer, up=False))
        except* (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            for end in (writer, there[1]):
                end.transport.abort()

    async def _direction(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, up: bool) -> None:
        chunks: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(QUEUE_CHUNKS)
        model = LinkModel()

        async def deliver() -> None:
            while True:
                due, chunk = await chunks.get()
                await asyncio.sleep(max(0.0, due - time.monotonic()))
                await self._flowing.wait()
                if not chunk:
                    raise ConnectionResetError("the other end closed")
                writer.write(chunk)
                await writer.drain()

        delivering = asyncio.create_task(deliver())
        try:
            while True:
                chunk = await reader.read(CHUNK_BYTES)
                arrival = model.arrival(time.monotonic(), len(chunk), self.up if up else self.down)
                await chunks.put((arrival, chunk))
                if not chunk:
                    await delivering
        finally:
            delivering.cancel()
            with contextlib.suppress(asyncio.CancelledError, OSError):
                await delivering


def _shrink(writer: asyncio.StreamWriter) -> None:
    """Small buffers, so that the sender feels the link and not our memory."""
    sock = writer.get_extra_info("socket")
    for option in (socket.SO_SNDBUF, socket.SO_RCVBUF):
        sock.setsockopt(socket.SOL_SOCKET, option, SOCKET_BUFFER_BYTES)
    writer.transport.set_write_buffer_limits(high=SOCKET_BUFFER_BYTES)
