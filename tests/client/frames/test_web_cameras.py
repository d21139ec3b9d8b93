"""A feed of a real stream: Motion JPEG over HTTP that closes, stalls, changes its size, and dies."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from spinn_client.events import Event, SourceBack, SourceChanged, SourceEnded, SourceLost
from spinn_client.frames.feed import Feed, FeedConfig
from spinn_client.sources.registry import open_source
from spinn_stream.errors import SourceError

from ..sources.cameras import web_camera

SMALL, LARGE = (64, 48), (96, 80)


def play(main: Callable[[], Coroutine[Any, Any, None]]) -> None:
    async def limited() -> None:
        async with asyncio.timeout(60):
            await main()

    asyncio.run(limited(), debug=True)


def test_a_stream_that_stalls_comes_back_in_another_size_and_dies_is_told_in_this_order() -> None:
    async def main() -> None:
        events: list[Event] = []
        drops: list[int] = []
        with web_camera([("show", 20, SMALL), ("stall",)], [("show", 20, LARGE)], [("refuse", 404)]) as camera:
            feed = Feed(
                open_source(camera.address),
                FeedConfig(source_timeout_s=0.5, give_up_after_s=2.0),
                on_event=events.append,
                on_drop=lambda number, reason: drops.append(number),
            )
            await feed.open()
            feed.start()
            taken: list[int] = []
            shapes: list[tuple[int, ...]] = []
            with pytest.raises(SourceError, match=r"away for more than 2 s: Server returned 404 Not Found"):
                while (frame := await feed.next()) is not None:
                    taken.append(frame.index)
                    shapes.append(frame.pixels.shape[:2])
            await feed.close()
        assert [type(e) for e in events] == [SourceLost, SourceBack, SourceChanged, SourceLost, SourceEnded]
        lost, back, changed, lost_again, _ = events
        assert isinstance(lost, SourceLost) and lost.why == "gives nothing for 0.5 s"
        assert isinstance(back, SourceBack) and back.away_s >= 0.5
        assert isinstance(changed, SourceChanged) and (changed.before, changed.after) == (SMALL[::-1], LARGE[::-1])
        assert isinstance(lost_again, SourceLost) and lost_again.why == "gives no more pictures"
        assert set(shapes) == {SMALL[::-1], LARGE[::-1]}
        assert sorted([*taken, *drops]) == list(range(feed.captured))

    play(main)


def test_a_camera_that_closes_and_accepts_again_is_opened_again_each_time() -> None:
    async def main() -> None:
        events: list[Event] = []
        with web_camera([("show", 10, SMALL)]) as camera:
            feed = Feed(open_source(camera.address), FeedConfig(max_frames=35), on_event=events.append)
            await feed.open()
            feed.start()
            while await feed.next() is not None:
                pass
            await feed.close()
        assert feed.captured == 35 and camera.visits >= 4
        kinds = [type(e) for e in events]
        assert kinds[:6] == [SourceLost, SourceBack] * 3

    play(main)


def test_a_size_that_changes_in_the_middle_of_a_stream_is_told_and_kept() -> None:
    async def main() -> None:
        events: list[Event] = []
        with web_camera([("show", 10, SMALL), ("show", 10, LARGE), ("stall",)]) as camera:
            feed = Feed(open_source(camera.address), FeedConfig(), on_event=events.append)
            await feed.open()
            feed.start()
            shape = SMALL[::-1]
            while shape != LARGE[::-1]:
                frame = await feed.next()
                assert frame is not None
                shape = frame.pixels.shape[:2]
            await feed.close()
        assert [type(e) for e in events] == [SourceChanged]

    play(main)


def test_what_was_buffered_before_the_start_is_thrown_away_uncounted() -> None:
    async def main() -> None:
        with web_camera([("burst", 200, SMALL), ("burst", 1, LARGE), ("stall",)]) as camera:
            changed = asyncio.Event()
            feed = Feed(open_source(camera.address), FeedConfig(), on_event=lambda event: changed.set())
            await feed.open()
            await changed.wait()
            assert feed.captured == 0
            feed.start()
            frame = await feed.next()
            assert frame is not None and frame.index == 0 and frame.pixels.shape[:2] == LARGE[::-1]
            assert feed.captured == 1 and not feed.dropped
            await feed.close()

    play(main)


@pytest.mark.parametrize("scheme", ["http", "rtsp"])
def test_an_address_that_accepts_and_says_nothing_is_an_error_within_the_limit(scheme: str) -> None:
    async def main() -> None:
        with socket.create_server(
            ("127.0.0.1", 0)
        ) as silent:  # connections are accepted by the system, and that is all
            port = silent.getsockname()[1]
            feed = Feed(open_source(f"{scheme}://me:secret@127.0.0.1:{port}/x"), FeedConfig(source_timeout_s=0.3))
            said = rf"{scheme}://me:\*\*\*@127.0.0.1:{port}/x gives nothing for 0\.6 s"
            with pytest.raises(SourceError, match=said):
                await feed.open()
            async with asyncio.timeout(2):
                await feed.close()

    play(main)
