"""One client's connection through the shaper, and ours to the server; how their sockets are set up."""

from __future__ import annotations

import asyncio
import logging
import socket
import struct
from collections.abc import Mapping

from spinn_stream.trace import DIRECTIONS

from .flow import MAX_SEGMENT_BYTES, RECEIVE_BUFFER_BYTES, SEND_BUFFER_BYTES, WIDE_RECEIVE_BUFFER_BYTES, Direction, Flow

log = logging.getLogger(__name__)

CONNECT_TIMEOUT_S = 5.0
KEEPALIVE_S = 10
KEEPALIVE_PROBES = 3
"""If a peer's machine is gone, this is noticed after 10 s of silence and three probes, 10 s apart."""


class Connection:
    """One client's connection and ours to the server."""

    def __init__(self, client: socket.socket, target: tuple[str, int], directions: Mapping[str, Direction]) -> None:
        self._client = client
        self._server: socket.socket | None = None
        self._target = target
        self._directions = directions
        self._over: asyncio.Future[bool] = asyncio.get_running_loop().create_future()  # whether it ended well
        self._open_ways = len(DIRECTIONS)

    def fail(self, why: OSError | None = None) -> None:
        """End it with a reset to both sides."""
        if not self._over.done():
            log.debug("a connection is reset: %s", why or "as asked")
            self._over.set_result(False)

    def fit_buffers(self) -> None:
        """Small buffers if the sender should feel a capacity, wider ones if there is none."""
        if self._server is not None and not self._over.done():
            for name, source in zip(DIRECTIONS, (self._client, self._server), strict=True):
                limited = self._directions[name].model.limited
                size = RECEIVE_BUFFER_BYTES if limited else WIDE_RECEIVE_BUFFER_BYTES
                source.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, size)

    async def run(self) -> None:
        """Until both directions have ended, or either socket fails."""
        flows: list[Flow] = []
        well = False
        try:
            async with asyncio.timeout(CONNECT_TIMEOUT_S):
                self._server = server = await self._connect()
            self.fit_buffers()
            for end in (self._client, server):
                _set_options(end)
            for name, source, sink in zip(DIRECTIONS, (self._client, server), (server, self._client), strict=True):
                flows.append(Flow(self._directions[name], source, sink, ended=self._way_ended, failed=self.fail))
            for flow in flows:
                flow.start()
            well = await self._over
        except OSError as error:  # TimeoutError is one
            log.debug("no connection to %s:%d: %s", *self._target, error)
        finally:
            for flow in flows:
                flow.close()
            for end in (self._client, *([] if self._server is None else [self._server])):
                if well:
                    end.close()
                else:
                    reset(end)

    def _way_ended(self) -> None:
        self._open_ways -= 1
        if not self._open_ways and not self._over.done():
            self._over.set_result(True)

    async def _connect(self) -> socket.socket:
        loop = asyncio.get_running_loop()
        error: OSError = OSError("no address")
        for family, kind, proto, _, address in await loop.getaddrinfo(*self._target, type=socket.SOCK_STREAM):
            server = socket.socket(family, kind, proto)
            try:
                server.setblocking(False)
                shrink(server)
                await loop.sock_connect(server, address)
            except OSError as found:
                server.close()
                error = found
            except BaseException:
                server.close()
                raise
            else:
                return server
        raise error


def shrink(end: socket.socket) -> None:
    """Small buffers and ordinary segments, so that the sender feels the link and not our memory. Before connecting."""
    end.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER_BYTES)
    end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER_BYTES)
    end.setsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG, MAX_SEGMENT_BYTES)


def _set_options(end: socket.socket) -> None:
    end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    end.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in (
        ("TCP_KEEPIDLE", KEEPALIVE_S),
        ("TCP_KEEPINTVL", KEEPALIVE_S),
        ("TCP_KEEPCNT", KEEPALIVE_PROBES),
    ):
        if hasattr(socket, name):  # Linux
            end.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)


def reset(end: socket.socket) -> None:
    """Close with a TCP reset."""
    end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    end.close()
