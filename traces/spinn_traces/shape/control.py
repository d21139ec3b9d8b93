"""The shaper's control endpoint: GET tells its state, POST changes settings. HTTP/1.1 on asyncio's streams.

Small enough to need no library: one request a connection, JSON in and out, everything bounded.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from spinn_stream.errors import ConfigError

from .shaper import Shaper

MAX_HEAD_BYTES = 8192
MAX_BODY_BYTES = 4096  # all settings together take less than 300
MAX_CONNECTIONS = 16
TIMEOUT_S = 5.0

REASONS = {
    200: "OK",
    400: "Bad Request",
    404: "Not Found",
    405: "Method Not Allowed",
    409: "Conflict",
    413: "Content Too Large",
    503: "Service Unavailable",
}


class _Refused(Exception):
    """A request that gets no 200."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status


@asynccontextmanager
async def control_endpoint(shaper: Shaper, host: str, port: int) -> AsyncIterator[int]:
    """Serve inside the block; gives the port.

    Raises:
        ConfigError: the address cannot be listened on.
    """
    tasks: set[asyncio.Task[None]] = set()

    def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(_serve(shaper, reader, writer, busy=len(tasks) >= MAX_CONNECTIONS))
        tasks.add(task)
        task.add_done_callback(tasks.discard)

    try:
        server = await asyncio.start_server(accept, host, port, limit=MAX_HEAD_BYTES)
    except OSError as error:
        raise ConfigError(f"cannot listen on {host}:{port}: {error.strerror or error}") from error
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        left = list(tasks)
        for task in left:
            task.cancel()
        await asyncio.gather(*left, return_exceptions=True)


async def _serve(shaper: Shaper, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, busy: bool) -> None:
    try:
        async with asyncio.timeout(TIMEOUT_S):
            try:
                if busy:
                    raise _Refused(503, f"{MAX_CONNECTIONS} requests are being answered")
                answer, status = await _answer(shaper, reader), 200
            except _Refused as error:
                answer, status = {"error": str(error)}, error.status
            body = json.dumps(answer).encode() + b"\n"
            writer.write(
                f"HTTP/1.1 {status} {REASONS[status]}\r\nContent-Type: application/json\r\n"
                f"Content-Length: {len(body)}\r\nConnection: close\r\n\r\n".encode()
                + body
            )
            await writer.drain()
            writer.write_eof()
            while await reader.read(4096):  # what we did not read would turn our answer into a reset
                pass
    except (OSError, EOFError):  # gone, or slower than TIMEOUT_S
        pass
    finally:
        writer.transport.abort()


async def _answer(shaper: Shaper, reader: asyncio.StreamReader) -> dict[str, Any]:
    method, path, length = await _head(reader)
    if path != "/":
        raise _Refused(404, f"got {path[:40]!r}, expected /")
    if method == "GET":
        return shaper.state()
    if method != "POST":
        raise _Refused(405, f"got {method[:20]!r}, expected GET or POST")
    if length > MAX_BODY_BYTES:
        raise _Refused(413, f"the body has {length} bytes, expected at most {MAX_BODY_BYTES}")
    try:
        changes = json.loads(await reader.readexactly(length))
        if not isinstance(changes, dict):
            raise ValueError("expected a JSON object")
    except asyncio.IncompleteReadError:
        raise _Refused(400, f"the body ends before its {length} bytes") from None
    except (ValueError, RecursionError) as error:
        raise _Refused(400, f"the body is no JSON object of settings: {error}") from None
    try:
        at = shaper.change(changes)
    except ValueError as error:
        raise _Refused(400, str(error)) from None
    except OSError as error:
        raise _Refused(409, f"cannot listen again: {error.strerror or error}") from None
    return {"at_s": at, **shaper.state()}


async def _head(reader: asyncio.StreamReader) -> tuple[str, str, int]:
    """Method, path and length of the body."""
    try:
        head = await reader.readuntil(b"\r\n\r\n")
    except asyncio.LimitOverrunError:
        raise _Refused(400, f"the head of the request has more than {MAX_HEAD_BYTES} bytes") from None
    except asyncio.IncompleteReadError:
        raise _Refused(400, "the request ends within its head") from None
    first, *lines = head.decode("latin-1").split("\r\n")
    words = first.split(" ")
    if len(words) != 3 or not words[2].startswith("HTTP/1."):
        raise _Refused(400, f"got {first[:60]!r}, expected a request such as GET / HTTP/1.1")
    headers = {name.strip().lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    if "transfer-encoding" in headers:
        raise _Refused(400, "the body comes in chunks, expected a Content-Length")
    length = headers.get("content-length", "0")
    if not (length.isascii() and length.isdecimal() and len(length) < 10):
        raise _Refused(400, f"Content-Length is {length[:40]!r}, expected a number")
    return words[0], words[1], int(length)
