"""ASGI for tests: a client in memory, and uvicorn as a server around an application."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import uvicorn

from spinn_server.admin.metrics import Metrics
from spinn_server.carriers.asgi import Application
from spinn_server.carriers.base import Service
from spinn_server.carriers.peers import Front
from spinn_stream.wire import SUBPROTOCOL

from .carriers import Client

Event = dict[str, Any]


def scope_of(kind: str, path: str = "/", **more: Any) -> dict[str, Any]:
    base = {"type": kind, "path": path, "headers": [], "client": ("192.0.2.1", 7)}
    return base | ({"subprotocols": [SUBPROTOCOL]} if kind == "websocket" else {"method": "GET"}) | more


class AsgiClient(Client):
    """A session through an application, without a socket: this is the ASGI server's end."""

    def __init__(self) -> None:
        super().__init__()
        self.events: asyncio.Queue[Event] = asyncio.Queue()  # for the application
        self.accepted: str | None = None
        self.refused: list[Event] = []  # what came instead of an accept
        self.events.put_nowait({"type": "websocket.connect"})

    async def run(self, application: Application, **more: Any) -> None:
        """The application's call for this session."""
        await application(scope_of("websocket", **more), self.events.get, self._take)
        if self.closed is None:
            self._heard(None)

    async def _take(self, event: Any) -> None:
        await asyncio.sleep(0)  # as a server does that waits for room
        if event["type"] == "websocket.accept":
            self.accepted = event["subprotocol"]
        elif event["type"] == "websocket.send":
            self._heard(event["bytes"])
        elif event["type"] == "websocket.close" and self.accepted is not None:
            self.closed = (event["code"], event["reason"])
            self._heard(None)
        else:
            self.refused.append(event)

    def say_bytes(self, data: bytes) -> None:
        self.events.put_nowait({"type": "websocket.receive", "bytes": data})

    def leave(self) -> None:
        self.events.put_nowait({"type": "websocket.disconnect", "code": 1000})


async def ask(application: Application, path: str, **more: Any) -> tuple[int, dict[bytes, bytes], bytes]:
    """Status, headers and body of a plain request."""
    sent: list[Any] = []

    async def receive() -> Event:
        return {"type": "http.request", "body": b""}

    async def send(event: Any) -> None:
        sent.append(event)

    await application(scope_of("http", path, **more), receive, send)
    start, body = sent
    return start["status"], dict(start["headers"]), body["body"]


def config_of(application: Application) -> uvicorn.Config:
    """As the application wants it."""
    return uvicorn.Config(
        application,
        ws="websockets-sansio",
        ws_max_size=application.max_message_bytes,
        ws_ping_interval=5,
        ws_ping_timeout=10,
        ws_per_message_deflate=False,
        proxy_headers=False,
        lifespan="on",
        log_config=None,
    )


@asynccontextmanager
async def uvicorn_around(
    service: Service, metrics: Metrics, front: Front, most: int = 1000, **more: Any
) -> AsyncIterator[str]:
    """uvicorn around an application of the service; gives the address."""
    application = Application(service, metrics, max_message_bytes=most, front=front, **more)
    with socket.create_server(("127.0.0.1", 0)) as listening:
        server = uvicorn.Server(config_of(application))
        serving = asyncio.create_task(server.serve(sockets=[listening]))
        await _until(lambda: server.started or serving.done())
        try:
            yield f"ws://127.0.0.1:{listening.getsockname()[1]}{front.path_prefix}"
        finally:
            server.should_exit = True
            await serving


async def _until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not condition():  # noqa: ASYNC110  # nothing tells of it
            await asyncio.sleep(0.005)
