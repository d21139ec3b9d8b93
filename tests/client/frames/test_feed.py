"""The feed: newest frame wins, nothing is lost unaccounted, and a live source comes back."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Coroutine, Iterator
from itertools import count
from typing import Any

import numpy as np
import pytest

from spinn_client.events import Event, SourceBack, SourceChanged, SourceEnded, SourceLost, Warned
from spinn_client.frames.feed import Feed, FeedConfig, Frame
from spinn_client.sources.base import Picture, Unusable
from spinn_client.sources.pushed import Pushed
from spinn_stream.errors import SourceError

QUICK = FeedConfig(source_timeout_s=0.2)


def picture(level: int = 0, size: int = 1) -> Picture:
    return Picture(np.full((size, size, 3), level, np.uint8))


class Scripted:
    """A source whose every playing is a script: pictures, errors to raise, and events to wait for."""

    name = "scripted"

    def __init__(self, *plays: list[object], live: bool = False, fps: float | None = 1000.0) -> None:
        self.plays = plays
        self.live = live
        self.fps = None if live else fps
        self.opened = 0
        self.waits = False
        self.closed = 0

    def pictures(self) -> Iterator[Picture | Unusable]:
        self.opened += 1
        for step in self.plays[min(self.opened, len(self.plays)) - 1]:
            if isinstance(step, Exception):
                raise step
            if isinstance(step, threading.Event):
                self.waits = True
                step.wait()
            else:
                assert isinstance(step, Picture | Unusable)
                yield step

    def close(self) -> None:
        self.closed += 1


def numbers(n: int) -> list[object]:
    return [picture(level) for level in range(n)]


class Heard:
    """What a feed tells."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self.drops: list[tuple[int, str]] = []

    def feed(self, source: Any, config: FeedConfig) -> Feed:
        return Feed(source, config, on_event=self.events.append, on_drop=lambda n, why: self.drops.append((n, why)))

    @property
    def kinds(self) -> list[type[Event]]:
        return [type(event) for event in self.events]


async def take_all(feed: Feed) -> list[Frame]:
    frames = []
    while (frame := await feed.next()) is not None:
        frames.append(frame)
    return frames


async def until(true: Callable[[], object]) -> None:
    async with asyncio.timeout(10):
        while not true():  # noqa: ASYNC110
            await asyncio.sleep(0.005)


def play(main: Callable[[], Coroutine[Any, Any, None]]) -> None:
    asyncio.run(main(), debug=True)


# Recorded sources


def test_unpaced_every_frame_is_taken_in_order_and_the_end_is_told() -> None:
    async def main() -> None:
        heard, source = Heard(), Scripted(numbers(50))
        feed = heard.feed(source, FeedConfig(unpaced=True))
        await feed.open()
        assert feed.waits
        feed.start()
        frames = await take_all(feed)
        assert [f.index for f in frames] == list(range(50)) == [int(f.pixels[0, 0, 0]) for f in frames]
        await feed.close()
        assert feed.captured == 50 and not feed.dropped and source.closed == 1
        assert heard.kinds == [SourceEnded] and not heard.drops

    play(main)


def test_the_newest_frame_wins_and_the_others_are_counted_and_told() -> None:
    async def main() -> None:
        heard = Heard()
        feed = heard.feed(Scripted(numbers(20)), FeedConfig())
        await feed.open()
        feed.start()
        await until(lambda: heard.events)  # nobody takes any while all come
        assert [f.index for f in await take_all(feed)] == [19]
        assert feed.captured == 20 and feed.dropped == {"superseded": 19}
        assert heard.drops == [(n, "superseded") for n in range(19)]
        await feed.close()

    play(main)


class Asked(Scripted):
    """Notes when it is asked for each picture."""

    def __init__(self, *plays: list[object], fps: float) -> None:
        super().__init__(*plays, fps=fps)
        self.asked: list[float] = []

    def pictures(self) -> Iterator[Picture | Unusable]:
        for each in super().pictures():
            self.asked.append(time.monotonic())
            yield each


def test_a_recorded_picture_is_not_read_as_soon_as_the_one_before_is_given() -> None:
    """With one core that would take the processor from the network, which just begins with the one before."""
    source, heard = Asked(numbers(6), fps=5.0), Heard()

    async def main() -> None:
        feed = heard.feed(source, FeedConfig())
        feed.start()
        frames = await take_all(feed)
        await feed.close()
        assert max(source.asked[frame.index + 1] - frame.captured for frame in frames[:-1]) >= 0.1

    play(main)


@pytest.mark.parametrize(("fps", "waits"), [(None, True), (100.0, False)])
def test_pictures_without_a_rate_wait_to_be_taken_unless_one_is_asked_for(fps: float | None, waits: bool) -> None:
    async def main() -> None:
        feed = Feed(Scripted(numbers(5), fps=None), FeedConfig(fps=fps))
        await feed.open()
        assert feed.waits is waits and feed.fps == fps
        await feed.close()

    play(main)


def test_a_loop_goes_on_counting_until_enough() -> None:
    async def main() -> None:
        feed = Feed(Scripted(numbers(3)), FeedConfig(unpaced=True, loop=True, max_frames=8))
        await feed.open()
        feed.start()
        assert [int(f.pixels[0, 0, 0]) for f in await take_all(feed)] == [0, 1, 2, 0, 1, 2, 0, 1]
        await feed.close()

    play(main)


def test_a_picture_that_cannot_be_used_has_a_number_is_dropped_and_named() -> None:
    async def main() -> None:
        heard = Heard()
        floats = Picture(np.zeros((2, 2, 3), np.float32))  # type: ignore[arg-type]
        source = Scripted([picture(), Unusable("b.jpg is not a picture", "b.jpg"), floats, picture()])
        feed = heard.feed(source, FeedConfig(unpaced=True))
        await feed.open()
        feed.start()
        assert [f.index for f in await take_all(feed)] == [0, 3]
        await feed.close()
        assert feed.captured == 4 and heard.drops == [(1, "bad_frame"), (2, "bad_frame")]
        assert [e.what for e in heard.events if isinstance(e, Warned)] == ["b.jpg is not a picture"]

    play(main)


def test_grey_pictures_of_a_source_become_bgr() -> None:
    async def main() -> None:
        grey = Picture(np.full((2, 4), 9, np.uint8))
        feed = Feed(Scripted([grey]), FeedConfig(unpaced=True))
        await feed.open()
        feed.start()
        [frame] = await take_all(feed)
        assert frame.pixels.shape == (2, 4, 3)
        await feed.close()

    play(main)


@pytest.mark.parametrize(
    ("steps", "said"),
    [
        ([], "scripted has no frame that can be read"),
        ([SourceError("scripted is not a video")], "scripted is not a video"),
    ],
)
@pytest.mark.parametrize("live", [True, False])
def test_a_source_that_does_not_open_is_an_error_at_the_start(steps: list[object], said: str, live: bool) -> None:
    async def main() -> None:
        heard, source = Heard(), Scripted(steps, live=live)
        feed = heard.feed(source, QUICK)
        with pytest.raises(SourceError, match="no more pictures" if live and not steps else said):
            await feed.open()
        await feed.close()
        assert source.opened == 1 and not heard.events

    play(main)


def test_a_recording_that_fails_half_way_says_so_behind_its_frames() -> None:
    async def main() -> None:
        feed = Feed(Scripted([picture(), SourceError("scripted is gone")]), FeedConfig(unpaced=True))
        await feed.open()
        feed.start()
        assert await feed.next() is not None
        with pytest.raises(SourceError, match="is gone"):
            await feed.next()
        await feed.close()

    play(main)


@pytest.mark.parametrize("live", [True, False])
def test_opening_takes_its_limit_and_no_longer_even_if_a_library_hangs(live: bool) -> None:
    async def main() -> None:
        hang, source = threading.Event(), Scripted([], live=live)
        source.plays = ([hang],)
        feed = Feed(source, QUICK)
        with pytest.raises(SourceError, match=r"scripted gives nothing for 0\.4 s"):
            await feed.open()
        await feed.close()
        assert source.closed == 0 or not live  # a thread that hangs keeps what it holds
        hang.set()

    play(main)


def test_stopping_ends_the_feed_and_counts_the_frame_that_waited() -> None:
    async def main() -> None:
        heard = Heard()
        feed = heard.feed(Scripted(numbers(5)), FeedConfig())
        await feed.open()
        feed.start()
        await until(lambda: heard.events)
        feed.stop()
        feed.stop()
        assert await feed.next() is None
        await feed.close()
        assert feed.dropped == {"superseded": 4, "stopped": 1} and heard.drops[-1] == (4, "stopped")

    play(main)


@pytest.mark.parametrize("state", ["new", "opening", "opened", "playing", "stalled", "waiting", "ended"])
def test_it_can_be_closed_from_every_state(state: str) -> None:
    async def main() -> None:
        hang = threading.Event()
        plays: list[list[object]] = {
            "opening": [[hang]],
            "stalled": [[picture(), hang]],
            "waiting": [[picture(), SourceError("lost")], [SourceError("lost")]],
        }.get(state, [numbers(3)])
        heard = Heard()
        feed = heard.feed(Scripted(*plays, live=state in ("stalled", "waiting")), QUICK)
        opening = asyncio.create_task(feed.open()) if state != "new" else None
        if state == "opening":
            await asyncio.sleep(0)
        elif opening is not None:
            await opening
            if state != "opened":
                feed.start()
            if state in ("waiting", "stalled"):
                await until(lambda: SourceLost in heard.kinds)
            if state == "ended":
                await until(lambda: SourceEnded in heard.kinds)
        async with asyncio.timeout(2):
            await feed.close()
        if opening is not None:
            await opening
        assert await feed.next() is None
        hang.set()

    play(main)


def test_it_plays_without_having_been_opened_and_says_then_what_is_wrong() -> None:
    async def main() -> None:
        feed = Feed(Scripted([SourceError("scripted is gone")]), FeedConfig())
        feed.start()
        with pytest.raises(SourceError, match="is gone"):
            await feed.next()
        await feed.close()

    play(main)


def test_a_callback_that_fails_does_not_keep_the_next_from_being_told(caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        drops: list[int] = []

        def fail_once(number: int, reason: str) -> None:
            drops.append(number)
            if number == 0:
                raise ZeroDivisionError

        feed = Feed(
            Scripted([Unusable("bad"), Unusable("bad"), picture()]), FeedConfig(unpaced=True), on_drop=fail_once
        )
        await feed.open()
        feed.start()
        await take_all(feed)
        await feed.close()
        assert drops == [0, 1] and "ZeroDivisionError" in caplog.text

    play(main)


# Live sources


def test_of_a_live_source_the_newest_picture_is_kept_until_the_start_and_is_frame_0() -> None:
    async def main() -> None:
        last, hold = threading.Event(), threading.Event()
        heard, source = Heard(), Scripted([*numbers(5), last, picture(5), hold], live=True)
        feed = heard.feed(source, FeedConfig())
        await feed.open()
        assert feed.captured == 0 and feed.fps is None and not feed.waits
        await until(lambda: source.waits)
        feed.start()
        frame = await feed.next()
        assert frame is not None and (frame.index, frame.pixels[0, 0, 0]) == (0, 4)
        last.set()
        frame = await feed.next()
        assert frame is not None and (frame.index, frame.pixels[0, 0, 0]) == (1, 5)
        assert feed.captured == 2 and not heard.drops
        hold.set()
        await feed.close()

    play(main)


def test_a_live_source_that_ends_is_opened_again_and_its_size_may_change() -> None:
    async def main() -> None:
        hold = threading.Event()
        heard = Heard()
        source = Scripted(
            [picture(1), SourceError("scripted: cut off")], [SourceError("refused")], [picture(2, size=2), hold],
            live=True,
        )  # fmt: skip
        feed = heard.feed(source, FeedConfig(source_timeout_s=5))
        await feed.open()
        feed.start()
        await until(lambda: SourceChanged in heard.kinds)
        lost, back, changed = heard.events
        assert isinstance(lost, SourceLost) and lost.why == "cut off" and "lost scripted: cut off" in lost.text
        assert isinstance(back, SourceBack) and back.away_s > 0
        assert isinstance(changed, SourceChanged) and (changed.before, changed.after) == ((1, 1), (2, 2))
        assert source.opened == 3
        hold.set()
        await feed.close()

    play(main)


def test_a_live_source_that_stalls_is_left_and_what_it_gives_later_never_counts() -> None:
    async def main() -> None:
        stall, hold = threading.Event(), threading.Event()
        heard, source = Heard(), Scripted([picture(1), stall, picture(99)], [picture(2), hold], live=True)
        feed = heard.feed(source, QUICK)
        await feed.open()
        feed.start()
        first = await feed.next()
        second = await feed.next()
        stall.set()  # the thread that hung wakes up, and has a picture
        assert first is not None and second is not None
        assert [first.pixels[0, 0, 0], second.pixels[0, 0, 0]] == [1, 2]
        assert heard.kinds[:2] == [SourceLost, SourceBack]
        assert isinstance(heard.events[0], SourceLost) and heard.events[0].why == "gives nothing for 0.2 s"
        await until(lambda: not any(t.name == "source" and t.is_alive() for t in feed._hanging))
        assert feed.captured == 2 and feed.dropped == {}
        hold.set()
        await feed.close()

    play(main)


def test_a_live_source_that_is_away_for_too_long_ends_the_run_with_the_reason() -> None:
    async def main() -> None:
        heard = Heard()
        source = Scripted([picture(1), SourceError("cut off")], [SourceError("refused")], live=True)
        feed = heard.feed(source, FeedConfig(source_timeout_s=0.2, give_up_after_s=0.5))
        await feed.open()
        feed.start()
        assert await feed.next() is not None
        with pytest.raises(SourceError, match=r"scripted: away for more than 0\.5 s: refused"):
            await feed.next()
        await feed.close()
        assert heard.kinds == [SourceLost, SourceEnded] and source.opened > 1

    play(main)


def test_a_source_that_hangs_each_time_it_is_opened_does_not_pile_up_threads() -> None:
    async def main() -> None:
        hang = threading.Event()
        heard, source = Heard(), Scripted([picture(1), hang], [hang], live=True)
        feed = heard.feed(source, FeedConfig(source_timeout_s=0.1))
        await feed.open()
        feed.start()
        await until(lambda: source.opened == 3)
        await asyncio.sleep(1)
        assert source.opened == 3 and heard.kinds == [SourceLost]
        hang.set()
        await until(lambda: source.opened > 3)
        await feed.close()

    play(main)


def test_unpaced_a_live_source_waits_too_which_is_no_silence() -> None:
    async def main() -> None:
        begun, heard = threading.Event(), Heard()
        source = Scripted([*numbers(2), begun, *numbers(5)], live=True)
        feed = heard.feed(source, FeedConfig(unpaced=True, source_timeout_s=0.2, max_frames=4))
        await feed.open()
        feed.start()
        begun.set()
        await asyncio.sleep(0.6)
        frames = await take_all(feed)
        assert [f.index for f in frames] == [0, 1, 2, 3] and not heard.events and not feed.dropped
        await feed.close()

    play(main)


def test_a_camera_faster_than_asked_for_is_thinned_out() -> None:
    async def main() -> None:
        hold = threading.Event()

        class Camera(Scripted):
            def pictures(self) -> Iterator[Picture]:
                for n in count():
                    if hold.wait(0.001):
                        return
                    yield picture(n % 256)

        feed = Feed(Camera(live=True), FeedConfig(fps=20))
        await feed.open()
        feed.start()
        began = time.monotonic()
        for _ in range(4):
            assert await feed.next() is not None
        assert feed.captured <= 3 + 20 * (time.monotonic() - began) and feed.fps == 20
        hold.set()
        await feed.close()

    play(main)


# Pushed sources

PUSHED = np.zeros((2, 3, 3), np.uint8)


def test_pushed_pictures_keep_their_numbers_and_times_and_the_newest_wins() -> None:
    async def main() -> None:
        heard, source = Heard(), Pushed()
        assert [source.push(PUSHED, captured=float(t)) for t in range(3)] == [0, 1, 2]
        feed = heard.feed(source, FeedConfig())
        await feed.open()
        assert source.push(PUSHED, captured=3.0) == 3
        feed.start()
        frame = await feed.next()
        assert frame is not None and (frame.index, frame.captured) == (3, 3.0)
        await asyncio.to_thread(source.push, PUSHED, 4.0)
        frame = await feed.next()
        assert frame is not None and (frame.index, frame.captured) == (4, 4.0)
        source.push(PUSHED)
        source.end()
        frame = await feed.next()
        assert frame is not None and frame.index == 5 and await feed.next() is None
        await feed.close()
        assert feed.captured == 6 and sorted(heard.drops) == [(n, "superseded") for n in range(3)]
        assert heard.kinds == [SourceEnded]

    play(main)


def test_what_is_pushed_to_a_stopped_feed_is_dropped_and_behind_its_close_waits_for_the_next() -> None:
    async def main() -> None:
        heard, source = Heard(), Pushed()
        feed = heard.feed(source, FeedConfig())
        await feed.open()
        feed.start()
        source.push(PUSHED)
        feed.stop()
        source.push(PUSHED)
        await feed.close()
        assert heard.drops == [(0, "stopped"), (1, "stopped")]
        source.push(PUSHED)
        other = Feed(source, FeedConfig(max_frames=1))
        await other.open()
        other.start()
        assert [f.index for f in await take_all(other)] == [2]
        await other.close()

    play(main)


def test_a_stream_of_pushed_pictures_ends_after_as_many_as_asked_for_and_counts_those_behind() -> None:
    async def main() -> None:
        heard, source = Heard(), Pushed()
        feed = heard.feed(source, FeedConfig(max_frames=2))
        await feed.open()
        feed.start()
        for _ in range(4):
            source.push(PUSHED)
        assert [f.index for f in await take_all(feed)] == [1]
        await feed.close()
        assert heard.drops == [(0, "superseded"), (2, "stopped"), (3, "stopped")] and not heard.events

    play(main)


def test_the_frame_that_waits_at_the_stop_of_a_later_stream_is_told_by_its_number() -> None:
    async def main() -> None:
        source = Pushed()
        for numbers in ([0, 1], [2]):
            heard = Heard()
            feed = heard.feed(source, FeedConfig())
            await feed.open()
            feed.start()
            for number in numbers:
                assert source.push(PUSHED) == number
            await feed.close()
            assert heard.drops[-1] == (numbers[-1], "stopped") and len(heard.drops) == len(numbers)

    play(main)


def test_a_program_that_pushes_nothing_for_long_is_a_lost_source_and_comes_back() -> None:
    async def main() -> None:
        heard, source = Heard(), Pushed()
        feed = heard.feed(source, FeedConfig(source_timeout_s=0.1, give_up_after_s=0.5))
        await feed.open()
        feed.start()
        source.push(PUSHED)
        await until(lambda: heard.kinds == [SourceLost])
        source.push(PUSHED[:1])
        await until(lambda: heard.kinds == [SourceLost, SourceBack, SourceChanged])
        await until(lambda: heard.kinds[3:] == [SourceLost, SourceEnded])
        assert (await feed.next()) is not None
        with pytest.raises(SourceError, match=r"away for more than 0\.5 s"):
            await feed.next()
        await feed.close()

    play(main)


@pytest.mark.parametrize(
    "bad",
    [
        {"fps": 0.0},
        {"fps": float("nan")},
        {"max_frames": 0},
        {"fps": 5.0, "unpaced": True},
        {"source_timeout_s": 0.0},
        {"give_up_after_s": -1.0},
    ],
)
def test_configurations_that_make_no_sense_are_refused(bad: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=r"expected|exclude"):
        FeedConfig(**bad)  # type: ignore[arg-type]
