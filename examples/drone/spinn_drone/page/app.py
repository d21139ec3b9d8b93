"""The page: NiceGUI's layout, and the webcam page's own way of sending pictures."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

import uvloop
from fastapi import FastAPI, WebSocket, WebSocketDisconnect
from nicegui import ui
from starlette.staticfiles import StaticFiles

from spinn_client.apps.webcam.app import Place, listen, serve
from spinn_client.apps.webcam.guard import Guard
from spinn_drone.flight.realtime import RealFlight

from .flights import Flights

STATIC = Path(__file__).parent / "static"
FILES = "/drone/static"
TITLE = "spinn drone"

STAGE = """
<main data-page="{page}">
  <section><h2>From above</h2><canvas class="map" width="1200" height="420"></canvas></section>
  <section class="beside">
    <div><h2>What the camera sees</h2><canvas class="camera" width="288" height="288"></canvas></div>
    <div><h2>Age of the answer acted on</h2><canvas class="ages" width="600" height="220"></canvas>
      <p class="now"><span data-part="age"></span><span data-part="speed"></span></p>
      <ul class="lines" role="status"></ul></div>
  </section>
</main>
"""


def application(flights: Flights, place: Place) -> Guard:
    """All of it. NiceGUI has one application in a process, so this is called once."""
    app = FastAPI(openapi_url=None)

    @app.websocket("/drone/live/{page}")
    async def live(socket: WebSocket, page: str) -> None:
        with contextlib.suppress(WebSocketDisconnect):
            await flights.hub.serve(page, socket)

    @app.get("/drone/scene")
    def scene() -> dict[str, Any]:
        now = flights.scene
        return {"seed": now.seed, "length": now.config.length, "trees": now.forest().trees.tolist()}

    app.mount(FILES, StaticFiles(directory=STATIC))

    @ui.page("/", title=TITLE)
    def index() -> None:
        ui.add_head_html(f'<link rel="stylesheet" href="{FILES}/style.css">')
        ui.add_head_html(f'<script type="module" src="{FILES}/flight.js"></script>')
        ui.html(STAGE.format(page=ui.context.client.id), sanitize=False)
        with ui.row().classes("buttons"):
            ui.button("Cut the link", on_click=lambda: flights.cut(True)).props("color=negative")
            ui.button("Mend it", on_click=lambda: flights.cut(False))

    ui.run_with(app, title=TITLE, dark=None, tailwind=False, show_welcome_message=False, binding_refresh_interval=None)
    return Guard(app, place.token)


def show(wanted: RealFlight, port: int) -> None:
    """Fly and show it until a signal comes.

    Raises:
        SpinnError: the port is taken, or something of the flight could not be started.
    """
    with listen("127.0.0.1", port) as listening:
        place = Place("127.0.0.1", listening.getsockname()[1], None)
        flights = Flights(wanted, lambda text: print(text, flush=True))
        print(f"open {place.address}", flush=True)
        uvloop.run(serve(application(flights, place), place, listening, flights.run))
