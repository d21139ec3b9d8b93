"""Pictures to pages: newest wins, and nothing piles up for a page that is slow or hidden."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import cv2
import numpy as np

from spinn_client import Result
from spinn_client.apps.webcam.camera import Shot
from spinn_client.apps.webcam.session import Answer
from spinn_client.apps.webcam.video import HEAD, MOST_MESSAGES, MOST_PICTURES, RECEIVED, WIDEST, Hub, encode, in_json


class Page:
    """The other end of a WebSocket, in memory."""

    def __init__(self) -> None:
        self.got: list[bytes | str] = []
        self._says: asyncio.Queue[dict[str, Any]] = asyncio.Queue()

    async def accept(self) -> None:
        """As a WebSocket does."""

    async def send_bytes(self, data: bytes) -> None:
        self.got.append(data)

    async def send_text(self, data: str) -> None:
        self.got.append(data)

    async def receive(self) -> dict[str, Any]:
        return await self._says.get()

    async def acknowledge(self) -> None:
        pictures = sum(isinstance(message, bytes) for message in self.got)
        await self.say(bytes=RECEIVED.pack(pictures, len(self.got)))

    async def say(self, **what: Any) -> None:
        self._says.put_nowait({"type": "websocket.receive", **what})
        await settle()

    async def leave(self) -> None:
        self._says.put_nowait({"type": "websocket.disconnect"})
        await settle()


async def settle() -> None:
    for _ in range(20):
        await asyncio.sleep(0)


async def opened(hub: Hub, name: str = "a") -> tuple[Page, asyncio.Task[None]]:
    page = Page()
    task = asyncio.create_task(hub.serve(name, page))  # type: ignore[arg-type]
    await settle()
    return page, task


def test_a_page_that_does_not_acknowledge_gets_two_pictures_and_then_the_newest() -> None:
    async def main() -> None:
        hub = Hub()
        page, task = await opened(hub)
        for number in range(10):
            hub.picture(b"%d" % number)
            await settle()
        assert page.got == [b"0", b"1"]
        assert len(page.got) == MOST_PICTURES
        await page.acknowledge()
        assert page.got == [b"0", b"1", b"9"]
        await page.leave()
        await task

    asyncio.run(main())


def test_answers_wait_one_of_each_stream() -> None:
    async def main() -> None:
        hub = Hub()
        page, task = await opened(hub)
        for number in range(50):
            for lane in ("ours", "device"):
                hub.answer(lane, f"{lane} {number}")
            await settle()
        assert len(page.got) == MOST_MESSAGES
        await page.acknowledge()
        assert page.got[MOST_MESSAGES:] == ["ours 49", "device 49"]
        await page.leave()
        await task

    asyncio.run(main())


def test_a_hidden_page_gets_nothing_and_counts_as_nobody() -> None:
    async def main() -> None:
        hub = Hub()
        page, task = await opened(hub)
        await page.say(text=json.dumps({"hidden": True}))
        hub.picture(b"0")
        hub.answer("ours", "0")
        await settle()
        assert (page.got, hub.watched) == ([], False)
        await page.say(text=json.dumps({"hidden": False}))
        hub.picture(b"1")
        await settle()
        assert (page.got, hub.watched) == ([b"1"], True)
        await page.leave()
        await task

    asyncio.run(main())


def test_a_slow_page_does_not_hold_up_another() -> None:
    async def main() -> None:
        hub = Hub()
        slow, first = await opened(hub, "slow")
        quick, second = await opened(hub, "quick")
        for number in range(5):
            hub.picture(b"%d" % number)
            await settle()
            await quick.acknowledge()
        assert (len(slow.got), len(quick.got)) == (2, 5)
        for page, task in ((slow, first), (quick, second)):
            await page.leave()
            await task
        assert hub.viewers == {}

    asyncio.run(main())


def test_a_page_that_says_nonsense_is_served_on() -> None:
    async def main() -> None:
        hub = Hub()
        page, task = await opened(hub)
        for nonsense in ({"text": "{"}, {"text": "[]"}, {"text": '{"ping": "x", "hidden": 3}'}, {"bytes": b"x"}):
            await page.say(**nonsense)
        hub.picture(b"0")
        await settle()
        assert page.got == [b"0"]
        await page.leave()
        await task

    asyncio.run(main())


def test_large_pictures_are_made_smaller_and_small_jpegs_are_passed_on() -> None:
    large = encode(7, Shot(np.zeros((720, 1280, 3), np.uint8), 2.5))
    assert HEAD.unpack_from(large) == (1, 7, 2.5)
    decoded = cv2.imdecode(np.frombuffer(large[HEAD.size :], np.uint8), cv2.IMREAD_COLOR)
    assert decoded is not None and decoded.shape == (360, WIDEST, 3)
    assert encode(7, Shot(np.zeros((48, 64, 3), np.uint8), 2.5, b"as it came"))[HEAD.size :] == b"as it came"


def test_an_answer_says_what_the_page_shows() -> None:
    result = Result(0, "final", "cat", 0.75, "block11", "device", "deadline", 42.04, 1, (("cat", 0.75), ("dog", 0.1)))
    said = json.loads(in_json(Answer("ours", 7, Shot(np.zeros((1, 1, 3), np.uint8), 2.5), result)))
    assert said == {
        "lane": "ours", "number": 7, "captured": 2.5, "label": "cat", "confidence": 0.75, "where": "device",
        "exit": "block11", "reason": "deadline", "fallback": True, "age": 42.0, "top": [["cat", 0.75], ["dog", 0.1]],
    }  # fmt: skip
