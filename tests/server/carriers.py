"""A carrier in memory, for tests."""

from __future__ import annotations

import asyncio
import time

from spinn_server.carriers.base import CarrierClosed
from spinn_stream.bundle import Bundle
from spinn_stream.codec import SUPPORTED
from spinn_stream.wire import Hello, Load, Message, ServerProfile, Welcome, decode, encode


class MemoryCarrier:
    """The server's end. A test says what the client sends, and reads what it is sent."""

    peer = "memory"

    def __init__(self) -> None:
        self._inbox: asyncio.Queue[bytes | None] = asyncio.Queue()
        self._sent: asyncio.Queue[bytes | None] = asyncio.Queue()
        self.closed: tuple[int, str] | None = None  # by the server: code and reason

    # as the server wants it

    async def recv(self) -> tuple[bytes, float]:
        data = await self._inbox.get()
        if data is None:
            raise CarrierClosed("the client left")
        return data, time.monotonic()

    async def send(self, data: bytes) -> None:
        self._sent.put_nowait(data)

    async def close(self, code: int, reason: str) -> None:
        self.closed = (code, reason)
        self._sent.put_nowait(None)

    def abort(self) -> None:
        self._sent.put_nowait(None)

    # for the test

    def say(self, message: Message) -> None:
        """The client sends this."""
        self._inbox.put_nowait(encode(message))

    def say_bytes(self, data: bytes) -> None:
        self._inbox.put_nowait(data)

    def leave(self) -> None:
        """The client closes."""
        self._inbox.put_nowait(None)

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
