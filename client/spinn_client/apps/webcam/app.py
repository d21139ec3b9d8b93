"""The web application: NiceGUI's page, and our own routes for pictures, on one port."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import socket
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import uvicorn
from fastapi import FastAPI, WebSocket, WebSocketDisconnect
from nicegui import ui
from starlette.staticfiles import StaticFiles

from spinn_stream.cli.signals import heeded
from spinn_stream.errors import ConfigError

from .camera import LARGEST_JPEG, VISITOR
from .controls import Controls
from .guard import LOOPBACK, Guard
from .page import TITLE, Page
from .video import receive_camera

STATIC = Path(__file__).parent / "static"
FILES = "/webcam/static"

END_S = 2


@dataclass(frozen=True)
class Place:
    """Where the page is. token: asked of visitors; None: nothing is asked, since only this machine reaches it."""

    host: str
    port: int
    token: str | None
    certificate: tuple[Path, Path] | None = None

    @property
    def address(self) -> str:
        """The address that a person opens."""
        host = socket.gethostname() if self.host in ("0.0.0.0", "::") else self.host
        host = f"[{host}]" if ":" in host else host
        query = f"/?token={self.token}" if self.token else "/"
        return f"{'https' if self.certificate else 'http'}://{host}:{self.port}{query}"


def listen(host: str, port: int) -> socket.socket:
    """A socket on which the page will be.

    Raises:
        ConfigError: the port is taken, or the address is none of this machine's.
    """
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        return socket.create_server((host, port), family=family)
    except (OSError, OverflowError) as error:
        why = "the port is taken" if getattr(error, "errno", None) == 98 else str(error)
        raise ConfigError(
            f"cannot show the page on {host}, port {port}: {why}; name another one with --port, or 0 for any"
        ) from error


def token_for(host: str, given: str | None) -> str | None:
    """The token that the page asks for: a new one if it is open to the network and none was given."""
    return given if given is not None or host in LOOPBACK else secrets.token_urlsafe(18)


def application(controls: Controls, place: Place) -> Guard:
    """All of it. NiceGUI has one application in a process, so this is called once."""
    app = FastAPI(openapi_url=None)
    head = "".join(
        f'<{tag}="{FILES}/{name}?{(STATIC / name).stat().st_mtime_ns}"{rest}>'
        for tag, name, rest in (
            ('link rel="stylesheet" href', "style.css", ""),
            ('script type="module" src', "viewer.js", "></script"),
        )
    )  # fmt: skip

    @app.websocket("/webcam/video/{page}")
    async def video(socket: WebSocket, page: str) -> None:
        with contextlib.suppress(WebSocketDisconnect):
            await controls.hub.serve(page, socket)

    @app.websocket("/webcam/camera/{page}")
    async def camera(socket: WebSocket, page: str) -> None:
        await socket.accept()
        controls.visitor = page
        controls.use_camera(VISITOR)

        def wanted() -> bool:
            return controls.visitor == page and controls.camera.source == VISITOR

        with contextlib.suppress(WebSocketDisconnect, RuntimeError):
            await receive_camera(socket, controls.camera.push_jpeg, wanted)
        if wanted():
            controls.visitor = ""
            controls.use_camera(controls.setup.source)

    app.mount(FILES, StaticFiles(directory=STATIC))

    @ui.page("/", title=TITLE)
    def index() -> None:
        Page(controls, head)

    ui.run_with(
        app, title=TITLE, dark=None, tailwind=False, show_welcome_message=False, binding_refresh_interval=None,
        reconnect_timeout=10, message_history_length=50,
    )  # fmt: skip
    return Guard(app, place.token)


class _Server(uvicorn.Server):
    """Without its own signal handling, which would end the process before our child processes are ended."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


async def serve(
    application: Guard, place: Place, listening: socket.socket, work: Callable[[], Awaitable[None]]
) -> None:
    """Show the page until a signal comes, or `work` fails."""
    certificate, key = place.certificate or (None, None)
    server = _Server(uvicorn.Config(
        application, log_config=None, access_log=False, ws_per_message_deflate=False, ws_max_size=LARGEST_JPEG + 64,
        timeout_graceful_shutdown=END_S, ssl_certfile=certificate, ssl_keyfile=key,
        server_header=False, loop="none",
    ))  # fmt: skip

    def end() -> None:
        server.force_exit, server.should_exit = server.should_exit, True  # the second signal is in earnest

    for number in heeded():
        asyncio.get_running_loop().add_signal_handler(number, end)

    async def watch() -> None:
        try:
            await work()
        except BaseException:
            server.should_exit = True
            raise

    working = asyncio.ensure_future(watch())
    try:
        await server.serve(sockets=[listening])
    finally:
        working.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await working
