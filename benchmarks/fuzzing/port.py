"""Fuzzes the port of a server, HTTP and WebSocket frames, through memory instead of sockets.

    python -m benchmarks.fuzzing.port [--messages 1000000] [--seed 0]

A whole server runs, with its engine. Each game is one connection: a request, whole or in pieces, and, if that begins a
session, frames. A fault is anything that escapes, an error in the server's log, an answer that is no HTTP, a status
500, and a connection that does not end. Prints one JSON object.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import logging
import random
import re
import resource
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from spinn_server.admin import logs
from spinn_server.admin.metrics import Metrics
from spinn_server.carriers.peers import Front, read_networks
from spinn_server.carriers.websocket import MAX_UNSENT
from spinn_server.server import Server, ServerConfig
from spinn_server.work.scheduler import BatchLimits
from spinn_server.work.worker import TailEngine
from spinn_stream.bundle import Bundle, load_bundle
from spinn_stream.codec import SUPPORTED, cnn_co
from spinn_stream.runtime import open_engine
from spinn_stream.wire import SUBPROTOCOL, Cancel, Hello, Infer, Message

from .messages import message
from .rounds import Found, fuzz

BUNDLE = Path(__file__).parents[1] / "bundles" / "lite2-200"
LONGEST_GAME = 30
ENDS_S = 20.0
MOST_GROWTH_MB = 64.0  # of the process, after the first WARM messages
WARM = 20_000
STATUS = re.compile(rb"HTTP/1\.1 (\d{3}) ")
CONTROL = 0x88, 0x8A  # first bytes of a close and of a pong

HEADERS = [
    b"Host: localhost", b"Upgrade: websocket", b"Connection: Upgrade", b"Sec-WebSocket-Version: 13",
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==", b"Sec-WebSocket-Protocol: " + SUBPROTOCOL.encode(),
]  # fmt: skip
MORE = [
    b"Origin: https://example.org", b"Origin: https://evil.example", b"Origin: \xff\x00",
    b"X-Forwarded-For: 192.0.2.1, 10.0.0.1", b"X-Forwarded-For: nobody, \x1b[2J",
    b"X-Forwarded-For: " + b"10.0.0.1," * 800, b"Content-Length: 5", b"Content-Length: -1",
    b"Transfer-Encoding: chunked", b"Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits=99",
    b"Sec-WebSocket-Protocol: chat", b"Sec-WebSocket-Key: x", b"Expect: 100-continue", b"X: " + b"y" * 9000,
    b": empty", b"no colon", b" folded", b"Connection: close", b"Authorization: Basic ====",
]  # fmt: skip
PATHS = [
    b"/", b"/", b"/", b"/", b"/healthz", b"/readyz", b"/metrics", b"/spinn", b"/spinn/metrics", b"/?x=1", b"//",
    b"/nowhere", b"*", b"", b"http://other/", b"/%00%ff", b"/" + b"a" * 9000, b"/\xff\xfe", b"/../..", b"/\x1b[2J",
]  # fmt: skip
METHODS = [b"GET"] * 12 + [b"POST", b"HEAD", b"CONNECT", b"get", b"\x16\x03\x01", b""]
VERSIONS = [b"HTTP/1.1"] * 12 + [b"HTTP/1.0", b"HTTP/2.0", b"HTTP/9", b""]


class Memory(asyncio.Transport):
    """A transport whose other end is the fuzzer. reads: False: what is written piles up."""

    def __init__(self, loop: asyncio.AbstractEventLoop, reads: bool) -> None:
        super().__init__({"peername": ("10.0.0.1", 1), "sockname": ("127.0.0.1", 2)})
        self._loop = loop
        self._reads = reads
        self._ended = False
        self.paused = False
        self.written = bytearray()

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        self.protocol: Any = protocol

    def get_protocol(self) -> asyncio.BaseProtocol:
        return self.protocol

    def write(self, data: bytes | bytearray | memoryview) -> None:
        if not self._ended:
            self.written += data

    def get_write_buffer_size(self) -> int:
        return 0 if self._reads else len(self.written)

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None: ...

    def can_write_eof(self) -> bool:
        return True

    def write_eof(self) -> None: ...

    def is_closing(self) -> bool:
        return self._ended

    def pause_reading(self) -> None:
        self.paused = True

    def resume_reading(self) -> None:
        self.paused = False

    def is_reading(self) -> bool:
        return not self.paused

    def close(self) -> None:
        if not self._ended:
            self._ended = True
            self._loop.call_soon(self.protocol.connection_lost, None)

    abort = close


class Loop(asyncio.SelectorEventLoop):
    """Keeps what makes the connections of the server that is begun on it."""

    make: Callable[[], Any]

    async def create_server(self, protocol_factory: Callable[[], Any], *args: Any, **more: Any) -> Any:  # type: ignore[override]
        self.make = protocol_factory
        return await super().create_server(protocol_factory, *args, **more)


class Errors(logging.Handler):
    """Errors that the server logs, and what the event loop says that nobody caught."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.found: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.found.append(logs.JsonLines().format(record))

    def uncaught(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        self.found.append(f"{context.get('message')}: {context.get('exception')!r}")


class PortGame:
    """One connection after the other."""

    def __init__(self, loop: Loop, bundle: Bundle, found: Found) -> None:
        self._loop, self._found = loop, found
        self.errors = Errors()
        loop.set_exception_handler(self.errors.uncaught)
        split = bundle.last - 1
        payload = cnn_co.encode(np.zeros(bundle.cut_points[split].shape, np.float32))
        hello = Hello(bundle.hash, SUPPORTED, None, "test")
        self._first: list[Message] = [hello]
        self._then: list[Message] = [Cancel(1), Cancel(2), Infer(3, split, cnn_co.NAME, None, 5000.0, payload)]
        for request in range(6):
            self._then.append(Infer(request, split, cnn_co.NAME, 0.5, 0.0, payload))
            self._then.append(Infer(request, 0, "jpeg", None, 0.0, b"no picture"))

    def __call__(self, rng: random.Random) -> None:
        self._loop.run_until_complete(asyncio.wait_for(self._connection(rng), ENDS_S))
        assert not self.errors.found, self.errors.found.pop()

    async def _connection(self, rng: random.Random) -> None:
        protocol = self._loop.make()
        transport = Memory(self._loop, reads=rng.random() < 0.9)
        transport.set_protocol(protocol)
        protocol.connection_made(transport)
        await self._feed(transport, request(rng), rng)
        if transport.written.startswith(b"HTTP/1.1 101 "):
            await self._feed(transport, framed(rng, message(rng, self._first)), rng)
            for _ in range(rng.randrange(LONGEST_GAME)):
                data = message(rng, self._then)
                await self._feed(transport, framed(rng, data) if rng.random() < 0.8 else odd_frame(rng, data), rng)
        for _ in range(3):
            await asyncio.sleep(0)
        if rng.random() < 0.5:
            protocol.eof_received()
        transport.close()
        while protocol.server.handler_tasks:
            await asyncio.wait(protocol.server.handler_tasks)
        self._judge(bytes(transport.written[:2000]))
        assert len(transport.written) < 4 * MAX_UNSENT

    async def _feed(self, transport: Memory, data: bytes, rng: random.Random) -> None:
        """As a socket would: in pieces, and not while the server does not read."""
        pieces = [data]
        if rng.random() < 0.2:
            at = sorted(rng.randrange(len(data) + 1) for _ in range(rng.choice((1, 2, 9))))
            pieces = [data[a:b] for a, b in zip([0, *at], [*at, len(data)], strict=True)]
        with self._found.message(len(data)):
            for piece in pieces:
                if transport.is_closing():
                    return
                transport.protocol.data_received(piece)
        for _ in range(200):
            await asyncio.sleep(0)
            if not transport.paused:
                break
        if not transport.written:  # the answer to a request may come from a thread
            for _ in range(20):
                await asyncio.sleep(0)
                if transport.written or transport.is_closing():
                    break
            else:
                await asyncio.sleep(0.001)

    def _judge(self, written: bytes) -> None:
        status = STATUS.search(written)
        # A ping or close that came with the request is answered at once by the library; the request itself, later.
        assert status or not written or written[0] in CONTROL, f"an answer that is no HTTP: {written[:100]!r}"
        code = status[1].decode() if status else "closed"
        self._found.count(code)
        assert code != "500", f"{written[:300]!r}"


def request(rng: random.Random) -> bytes:
    """A request for a session as often as not; or another one, or nearly one."""
    if rng.random() < 0.4:
        return b"GET / HTTP/1.1\r\n" + b"\r\n".join(HEADERS) + b"\r\n\r\n"
    headers = list(HEADERS) if rng.random() < 0.7 else [HEADERS[0]]
    for _ in range(rng.choice((0, 1, 1, 2, 150))):
        headers.insert(rng.randrange(len(headers) + 1), rng.choice(MORE))
    if rng.random() < 0.2:
        headers.pop(rng.randrange(len(headers)))
    end = b"\r\n" if rng.random() < 0.95 else rng.choice((b"\n", b"\r", b"\0"))
    first = b" ".join((rng.choice(METHODS), rng.choice(PATHS), rng.choice(VERSIONS)))
    data = end.join((first, *headers, b"", b""))
    if rng.random() < 0.15:
        flipped = bytearray(data)
        for _ in range(rng.choice((1, 3))):
            flipped[rng.randrange(len(flipped))] = rng.randrange(256)
        data = bytes(flipped)
    if rng.random() < 0.1:
        data = data[: rng.randrange(len(data))]
    return data + rng.choice((b"", b"", b"", b"body", rng.randbytes(300)))


def frame(first: int, data: bytes, *, mask: bytes = b"\0\0\0\0", length: int | None = None) -> bytes:
    """A frame of RFC 6455, section 5.2. length: what is said of the data's."""
    size = len(data) if length is None else length
    if size < 126:
        head = bytes([first, 0x80 | size])
    elif size < 1 << 16:
        head = bytes([first, 0x80 | 126]) + size.to_bytes(2, "big")
    else:
        head = bytes([first, 0x80 | 127]) + size.to_bytes(8, "big")
    return head + mask + data


def framed(rng: random.Random, data: bytes) -> bytes:
    """A message in one frame, or in several with pings between them."""
    if rng.random() < 0.8:
        return frame(0x82, data)
    at = len(data) // 2
    between = frame(0x89, b"ping") if rng.random() < 0.5 else b""
    return frame(0x02, data[:at]) + between + frame(0x80, data[at:])


def odd_frame(rng: random.Random, data: bytes) -> bytes:
    """A control frame, or one that breaks the rules."""
    code = rng.choice((0, 999, 1000, 1005, 1006, 1015, 3000, 65535)).to_bytes(2, "big")
    length = rng.choice((1 << 16, 1 << 31, (1 << 63) - 1, (1 << 64) - 1))
    ways = (
        lambda: frame(0x89, data[:125]),
        lambda: frame(0x8A, data[:125]),
        lambda: frame(0x88, code + rng.choice((b"", b"bye", b"\xff\xfe"))),
        lambda: frame(rng.randrange(256), data[:300]),
        lambda: frame(0x82, data, length=length),
        lambda: b"\x82" + bytes([min(len(data), 125)]) + data[:125],  # not masked
        lambda: frame(0x81, data[:200]),
        lambda: frame(0x02, b"x") + frame(0x00, b"") * rng.choice((3, 1100)),
        lambda: frame(0x89, data) * rng.choice((1, 40)),
        lambda: rng.randbytes(rng.choice((1, 2, 14, 300))),
    )
    return ways[rng.randrange(len(ways))]()


@contextlib.contextmanager
def _only_errors(handler: logging.Handler) -> Iterator[None]:
    """Errors of the server go to the handler, and nothing else is logged: what strangers do is thousands of lines."""
    levels = {"spinn_server": logging.ERROR, "websockets": logging.CRITICAL}
    before = {name: logging.getLogger(name).level for name in levels}
    log = logging.getLogger("spinn_server")
    log.addHandler(handler)
    for name, level in levels.items():
        logging.getLogger(name).setLevel(level)
    try:
        yield
    finally:
        log.removeHandler(handler)
        for name, level in before.items():
            logging.getLogger(name).setLevel(level)


def measure(count: int, seed: int) -> Found:
    """Fuzz the port with this many requests and frames."""
    bundle, metrics, found = load_bundle(BUNDLE), Metrics(), Found()
    loop = Loop()
    front = Front("/spinn", read_networks(["10.0.0.0/8"]), frozenset({"https://example.org"}))
    tail = TailEngine(bundle, open_engine(bundle, "onnxruntime"), BatchLimits(), metrics)
    server = Server([tail], metrics, ServerConfig(port=0, front=front))
    listening = server.listen()
    loop.run_until_complete(listening.__aenter__())
    game = PortGame(loop, bundle, found)
    try:
        with _only_errors(game.errors):
            fuzz(game, found, min(count, WARM), seed)
            before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
            fuzz(game, found, count, seed + 1)
            growth = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024 - before
            if growth > MOST_GROWTH_MB:
                found.faults.append(f"the process grew by {growth:.0f} MB")
    finally:
        loop.run_until_complete(listening.__aexit__(None, None, None))
        loop.close()
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--messages", type=int, default=1_000_000)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    print(json.dumps(measure(args.messages, args.seed).as_dict()))


if __name__ == "__main__":
    main()
