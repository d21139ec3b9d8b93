"""Clients in memory, for tests, and a carrier that leads to one."""

from __future__ import annotations

import asyncio
import time

from spinn_server.carriers.base import CarrierClosed
from spinn_stream.bundle import Bundle
from spinn_stream.codec import SUPPORTED
from spinn_stream.wire import Hello, Load, Message, ServerProfile, Welcome, decode, encode


class Client:
    """What a test says as a client, and what it hears of the server.

    closed: by the server, with code and reason.
    """

    def __init__(self) -> None:
        self._sent: asyncio.Queue[bytes | None] = asyncio.Queue()
        self.closed: tuple[int, str] | None = None

    def say(self, message: Message) -> None:
        """The client sends this."""
        self.say_bytes(encode(message))

    def say_bytes(self, data: bytes) -> None:
        raise NotImplementedError

    def leave(self) -> None:
        """The client closes."""
        raise NotImplementedError

    def _heard(self, data: bytes | None) -> None:
        """A message of the server; None: it has closed."""
        self._sent.put_nowait(data)

    async def hear(self) -> Message | None:
        """The next message of the server that is not about its load or speed; None once it has closed."""
        async with asyncio.timeout(20):
            while (data := await self._sent.get()) is not None:
                message = decode(data)
                if not isinstance(message, Load | ServerProfile):
                    return message
            return None

    async def hear_load(self) -> Load:
        """The next message of the server that is about its load."""
        async with asyncio.timeout(20):
            while (data := await self._sent.get()) is not None:
                message = decode(data)
                if isinstance(message, Load):
                    return message
        raise AssertionError("the server closed")

    async def greet(self, bundle: Bundle) -> None:
        """Hello, and the welcome."""
        self.say(Hello(bundle.hash, SUPPORTED, None, "test"))
        assert isinstance(await self.hear(), Welcome)


class MemoryCarrier(Client):
    """The server's end of a session, and the client at its other end."""

    peer = "memory"

    def __init__(self) -> None:
        super().__init__()
        self._inbox: asyncio.Queue[bytes | None] = asyncio.Queue()

    async def recv(self) -> tuple[bytes, float]:
        data = await self._inbox.get()
        if data is None:
            raise CarrierClosed("the client left")
        return data, time.monotonic()

    async def send(self, data: bytes) -> None:
        self._heard(data)

    async def close(self, code: int, reason: str) -> None:
        self.closed = (code, reason)
        self._heard(None)

    def abort(self) -> None:
        self._heard(None)

    def say_bytes(self, data: bytes) -> None:
        self._inbox.put_nowait(data)

    def leave(self) -> None:
        self._inbox.put_nowait(None)
