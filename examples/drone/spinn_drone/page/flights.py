"""Flights one after the other, and their messages for the page."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Callable
from dataclasses import replace

import cv2

from spinn_client.apps.webcam.video import HEAD, PICTURE, QUALITY, Hub
from spinn_drone.flight.realtime import RealFlight, Watcher, fly
from spinn_drone.robot import Picture
from spinn_drone.world.scene import Scene
from spinn_drone.world.world import Command, DroneState
from spinn_stream.errors import SpinnError
from spinn_traces.replay.run.processes import get

PAUSE_S = 3.0
"""Between two flights, to see how the one before ended."""


class Flights:
    """Flies forest after forest, and shows every open page. All but the flight's own threads is on the event loop.

    Args:
        wanted: the first flight; later ones have the next seeds. said: gets how each flight ended.
    """

    def __init__(self, wanted: RealFlight, said: Callable[[str], object]) -> None:
        self.hub = Hub()
        self._wanted, self._said = wanted, said
        self._stop = threading.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._control: int | None = None
        self._age = 0.0
        self._number = 0
        self.is_cut = False

    @property
    def scene(self) -> Scene:
        return self._wanted.scene

    async def run(self) -> None:
        """Until it is cancelled; then the flight under way is given up."""
        self._loop = asyncio.get_running_loop()
        watcher = Watcher(self._say, self._commanded, self._looked, self._linked, self._stop.is_set)
        try:
            while True:
                flight = await asyncio.shield(asyncio.to_thread(fly, self._wanted, watcher))
                self._control = None
                self._tell("end", {"ending": flight.ending, "seconds": flight.seconds, "metres": flight.metres})
                self._said(f"forest {flight.seed}: {flight.ending} after {flight.seconds:.1f} s")
                await asyncio.sleep(PAUSE_S)
                seed = self._wanted.scene.seed + 1
                self._wanted = replace(self._wanted, scene=replace(self._wanted.scene, seed=seed))
                self.is_cut = False
        finally:
            self._stop.set()

    async def cut(self, is_cut: bool) -> None:
        """Cut the link of the flight under way, or mend it."""
        if self._control is None:
            self._tell("line", {"text": "there is no link just now: no flight with a server is under way"})
            return
        try:
            await asyncio.to_thread(get, self._control, "/", {"stall": is_cut})
        except SpinnError as error:
            self._tell("line", {"text": f"the link could not be changed: {error}"})
        else:
            self.is_cut = is_cut
            self._tell("line", {"text": "the link is cut" if is_cut else "the link is back"})

    # In the flight's threads

    def _say(self, text: str) -> None:
        self._on_loop(self._tell, "line", {"text": text})

    def _linked(self, port: int) -> None:
        self._control = port

    def _commanded(self, command: Command, age: float) -> None:
        self._age = age

    def _looked(self, picture: Picture, at: DroneState) -> None:
        if not self.hub.watched:
            return
        self._number += 1
        _, jpeg = cv2.imencode(".jpg", picture.pixels, [cv2.IMWRITE_JPEG_QUALITY, QUALITY])
        message = HEAD.pack(PICTURE, self._number, picture.captured) + jpeg.tobytes()
        age_ms = None if self._age > 1e3 else round(1000 * self._age)
        where = {"seed": self.scene.seed, "x": at.x, "y": at.y, "speed": at.speed, "age": age_ms}
        self._on_loop(self._show, message, where)

    def _on_loop(self, function: Callable[..., object], *arguments: object) -> None:
        assert self._loop is not None
        self._loop.call_soon_threadsafe(function, *arguments)

    # On the loop

    def _show(self, message: bytes, where: dict[str, object]) -> None:
        self.hub.picture(message)
        self._tell("at", where)

    def _tell(self, kind: str, what: dict[str, object]) -> None:
        self.hub.answer(kind, json.dumps({"kind": kind, **what}))
