"""Pictures and answers for every visible page. A page acknowledges them, and gets the newest when it has room."""

from __future__ import annotations

import asyncio
import json
import struct
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import cv2

from .camera import Shot
from .session import Answer

if TYPE_CHECKING:  # the command line says what is missing if it is not installed
    from fastapi import WebSocket

WIDEST = 640
"""Pixels; larger pictures are made smaller, for the pages only."""

QUALITY = 80

MOST_PICTURES, MOST_MESSAGES = 2, 12
"""Pictures, and other messages, that a page may not have acknowledged yet; a newer picture replaces one that waits."""

HEAD = struct.Struct("<BId")  # kind, number, captured in seconds of our clock
PICTURE = 1
RECEIVED = struct.Struct("<II")  # pictures and messages that a page has received

BEHIND_S = 2.0
"""A page that acknowledges nothing for this long gets no charts either."""


def encode(number: int, shot: Shot) -> bytes:
    """A picture as the pages get it. A visitor's own JPEG is passed on if it is small enough."""
    height, width = shot.pixels.shape[:2]
    jpeg = shot.jpeg
    if width > WIDEST or jpeg is None:
        pixels = shot.pixels
        if width > WIDEST:
            pixels = cv2.resize(pixels, (WIDEST, round(height * WIDEST / width)), interpolation=cv2.INTER_AREA)  # type: ignore[assignment]
        _, encoded = cv2.imencode(".jpg", pixels, [cv2.IMWRITE_JPEG_QUALITY, QUALITY])
        jpeg = encoded.tobytes()
    return HEAD.pack(PICTURE, number, shot.captured) + jpeg


def in_json(answer: Answer) -> str:
    """An answer as the pages get it."""
    result = answer.result
    return json.dumps({
        "lane": answer.lane, "number": answer.number, "captured": answer.shot.captured,
        "label": result.label, "confidence": result.confidence, "where": result.where, "exit": result.exit,
        "reason": result.reason, "fallback": result.is_fallback, "age": round(result.age_ms, 1),
        "top": [(label, round(p, 3)) for label, p in result.top[:3]],
    })  # fmt: skip


class Left(Exception):
    """A page has left."""


class Viewer:
    """One page. At most one picture, and one answer of each stream, wait for it."""

    def __init__(self, socket: WebSocket) -> None:
        self._socket = socket
        self._picture: bytes | None = None
        self._answers: dict[str, str] = {}
        self._pictures = self._messages = 0  # sent
        self._seen = (0, 0)
        self._something = asyncio.Event()
        self._heard = time.monotonic()
        self.hidden = False

    @property
    def keeps_up(self) -> bool:
        """Whether the page is visible, and receives what is sent."""
        waits = self._messages > self._seen[1] and time.monotonic() - self._heard > BEHIND_S
        return not self.hidden and not waits

    def offer_picture(self, message: bytes) -> None:
        self._picture = message
        self._something.set()

    def offer_answer(self, lane: str, message: str) -> None:
        self._answers[lane] = message
        self._something.set()

    async def send(self) -> None:
        """Send what waits, as soon as the page has room, until it leaves."""
        while True:
            await self._something.wait()
            self._something.clear()
            if self.hidden:
                self._picture = None
                self._answers.clear()
            while self._answers and self._messages - self._seen[1] < MOST_MESSAGES:
                lane = next(iter(self._answers))
                self._messages += 1
                await self._socket.send_text(self._answers.pop(lane))
            if self._picture is not None and self._pictures - self._seen[0] < MOST_PICTURES:
                picture, self._picture = self._picture, None
                self._pictures, self._messages = self._pictures + 1, self._messages + 1
                await self._socket.send_bytes(picture)

    async def receive(self) -> None:
        """Read what the page says, until it leaves: what it has received, whether it is visible, and questions about
        our clock."""
        while True:
            message = await self._socket.receive()
            if message["type"] == "websocket.disconnect":
                raise Left
            self._heard = time.monotonic()
            received = message.get("bytes")
            if received is not None:
                if len(received) == RECEIVED.size:
                    self._seen = RECEIVED.unpack(received)
                    self._something.set()
                continue
            said = _parsed(message.get("text") or "")
            if isinstance(said.get("hidden"), bool):
                self.hidden = said["hidden"]
            if isinstance(said.get("ping"), int | float):
                await self._socket.send_text(json.dumps({"pong": said["ping"], "now": time.monotonic()}))


class Hub:
    """All pages. Its methods are called in their event loop, but for `watched`."""

    def __init__(self) -> None:
        self.viewers: dict[str, Viewer] = {}

    @property
    def watched(self) -> bool:
        """Whether any page is visible, so that a picture is worth encoding."""
        return any(not viewer.hidden for viewer in list(self.viewers.values()))

    def picture(self, message: bytes) -> None:
        for viewer in self.viewers.values():
            viewer.offer_picture(message)

    def answer(self, lane: str, message: str) -> None:
        for viewer in self.viewers.values():
            viewer.offer_answer(lane, message)

    async def serve(self, name: str, socket: WebSocket) -> None:
        """One page's WebSocket, from beginning to end. name: the page's."""
        await socket.accept()
        viewer = self.viewers[name] = Viewer(socket)
        try:
            await _until_one_leaves(viewer.send(), viewer.receive())
        finally:
            if self.viewers.get(name) is viewer:
                del self.viewers[name]


async def receive_camera(socket: WebSocket, push: Callable[[bytes, float], object], wanted: Callable[[], bool]) -> None:
    """A visitor's pictures: each is a time of our clock and a JPEG, and is acknowledged once it was taken.

    wanted: whether the pictures of this page are still asked for.
    """
    while wanted():
        message = await socket.receive_bytes()
        captured, jpeg = struct.unpack_from("<d", message)[0] if len(message) > 8 else 0.0, message[8:]
        try:
            await asyncio.to_thread(push, jpeg, captured)
        except ValueError as error:
            await socket.send_text(json.dumps({"refused": str(error)}))
        else:
            await socket.send_text("{}")
    await socket.close(1000, "another camera is used now")


async def _until_one_leaves(*work: Any) -> None:
    tasks = [asyncio.ensure_future(each) for each in work]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        for outcome in await asyncio.gather(*tasks, return_exceptions=True):
            if isinstance(outcome, Exception) and not isinstance(outcome, Left | RuntimeError):
                raise outcome


def _parsed(text: str) -> dict[str, Any]:
    try:
        said = json.loads(text)
    except ValueError:
        return {}
    return said if isinstance(said, dict) else {}
