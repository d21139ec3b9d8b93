"""The feed: newest frame wins, nothing is lost unaccounted."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import numpy as np
import pytest

from spinn_client.frames.feed import Feed, FeedConfig, Frame
from spinn_stream.errors import SourceError
from spinn_stream.frame import Pixels


class Numbers:
    """A source of so many tiny frames; live when it has no rate."""

    name = "numbers"

    def __init__(self, count: int, fps: float | None = 1000.0) -> None:
        self.count = count
        self.fps = fps
        self.closed = False

    def frames(self) -> Iterator[Pixels]:
        for n in range(self.count):
            yield np.full((1, 1, 3), n, np.uint8)

    def close(self) -> None:
        self.closed = True


async def take_all(feed: Feed) -> list[Frame]:
    frames = []
    while (frame := await feed.next()) is not None:
        frames.append(frame)
    return frames


def test_unpaced_every_frame_is_taken_in_order() -> None:
    async def main() -> None:
        source = Numbers(50)
        feed = Feed(source, FeedConfig(unpaced=True))
        feed.start()
        frames = await take_all(feed)
        assert [f.index for f in frames] == list(range(50)) == [int(f.pixels[0, 0, 0]) for f in frames]
        assert feed.captured == 50 and not feed.dropped and source.closed

    asyncio.run(main())


def test_the_newest_frame_wins_and_the_others_are_counted() -> None:
    async def main() -> None:
        feed = Feed(Numbers(20), FeedConfig())
        feed.start()
        feed._thread.join()  # nobody takes any while all come
        frames = await take_all(feed)
        assert [f.index for f in frames] == [19]
        assert feed.captured == 20 and feed.dropped == {"superseded": 19}

    asyncio.run(main())


def test_a_loop_goes_on_counting_until_enough() -> None:
    async def main() -> None:
        feed = Feed(Numbers(3), FeedConfig(unpaced=True, loop=True, max_frames=8))
        feed.start()
        assert [int(f.pixels[0, 0, 0]) for f in await take_all(feed)] == [0, 1, 2, 0, 1, 2, 0, 1]

    asyncio.run(main())


@pytest.mark.parametrize(
    ("source", "said"), [(Numbers(0), "no frame that can be read"), (Numbers(2, fps=None), "gives no more frames")]
)
def test_a_source_that_fails_says_so_to_whoever_waits(source: Numbers, said: str) -> None:
    async def main() -> None:
        feed = Feed(source, FeedConfig(unpaced=True))
        feed.start()
        with pytest.raises(SourceError, match=said):
            await take_all(feed)

    asyncio.run(main())


def test_stopping_ends_the_feed_and_counts_the_frame_that_waited() -> None:
    async def main() -> None:
        feed = Feed(Numbers(5), FeedConfig())
        feed.start()
        feed._thread.join()
        feed.stop()
        assert await feed.next() is None
        assert feed.dropped == {"superseded": 4, "stopped": 1}

    asyncio.run(main())


@pytest.mark.parametrize("bad", [{"fps": 0.0}, {"fps": float("nan")}, {"max_frames": 0}, {"fps": 5.0, "unpaced": True}])
def test_configurations_that_make_no_sense_are_refused(bad: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=r"expected|exclude"):
        FeedConfig(**bad)  # type: ignore[arg-type]
