"""From a blocking source to the event loop: paced, newest frame wins, and a live source is opened again."""

from __future__ import annotations

import asyncio
import logging
import random
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from functools import partial

from spinn_client.events import Event, SourceBack, SourceChanged, SourceEnded, SourceLost, Warned
from spinn_client.sources.base import Picture, Source, Unusable
from spinn_client.sources.pushed import Pushed, Taker
from spinn_client.sources.resilient import Act, Resilience
from spinn_stream.errors import SourceError
from spinn_stream.frame import Pixels

from .feed_config import AHEAD, BACKLOG_S, OPENING, WAITED_S, FeedConfig
from .reading import read
from .slot import Frame, Slot

__all__ = ["Feed", "FeedConfig", "Frame"]

log = logging.getLogger(__name__)

CLOSE_S = 0.8
"""How long `close` waits for a reader; one that hangs is left to itself."""

MOST_HANGING = 3
"""Readers that may hang in a library at a time; as long as there are this many, a source is not opened again."""

MOST_NAMED = 20
"""Files that cannot be read are named up to this many; all are counted."""


def _ignore(*what: object) -> None:
    """For those who do not want to know."""


class Feed:
    """Reads a source in a thread of its own and holds one frame: the newest that was not taken yet.

    A frame that is replaced before it was taken is dropped as `superseded`. Frames wait to be taken instead if they are
    played `unpaced`, or if they are pictures without a rate and none was asked for; pushed ones never do.

    It plays once, in the event loop in which it was opened: it is used there, and calls there.

    Args:
        on_event: told what happens to the source. on_drop: told of each drop: the frame's number, and why.
    """

    def __init__(
        self,
        source: Source | Pushed,
        config: FeedConfig,
        *,
        on_event: Callable[[Event], object] = _ignore,
        on_drop: Callable[[int, str], object] = _ignore,
    ) -> None:
        self._source = source
        self._config = config
        self._on_event = on_event
        self._slot = Slot(config.max_frames, on_drop)
        self._resilience = Resilience(
            random.Random(),
            timeout_s=config.source_timeout_s,
            open_s=OPENING * config.source_timeout_s,
            give_up_after_s=config.give_up_after_s,
            reopens=not isinstance(source, Pushed),
        )
        self._loop: asyncio.AbstractEventLoop | None = None
        self._opened = asyncio.Event()
        self._timer: asyncio.TimerHandle | None = None
        self._reader: threading.Thread | None = None  # whose pictures count; changes under the slot's lock, as do these
        self._hanging: list[threading.Thread] = []
        self._rate: float | None = source.fps if isinstance(source, Pushed) else config.fps
        self._size: tuple[int, int] | None = None
        self._read_from = 0.0  # when the reader went to its source for the picture that it has now
        self._due = 0.0  # when the next picture of a live source that is faster than asked for is used
        self._cause = ""  # why the source was lost

    @property
    def name(self) -> str:
        """The source's, for people."""
        return self._source.name

    @property
    def fps(self) -> float | None:
        """Frames per second as played, once it is open; None: that depends on the source."""
        return self._rate

    @property
    def waits(self) -> bool:
        """Whether each frame waits to be taken, so that none is superseded. Right once it is open."""
        if isinstance(self._source, Pushed):  # whoever pushes cannot wait
            return False
        return self._config.unpaced or (self._rate is None and not self._source.live)

    @property
    def one_camera(self) -> bool:
        """See `FrameSource`. Right once it is open."""
        source = self._source
        return source.one_camera if isinstance(source, Pushed) else source.live or source.fps is not None

    @property
    def captured(self) -> int:
        """Frames that the source gave, those dropped included."""
        return self._slot.captured

    @property
    def dropped(self) -> Counter[str]:
        """Frames that were not taken, by reason; whoever takes them may add others."""
        return self._slot.dropped

    async def open(self) -> None:
        """Open the source. A live one is read from now on, and its newest picture kept for `start`.

        Raises:
            SourceError: it cannot be opened, gives no picture, or takes too long.
        """
        self._begin()
        if isinstance(self._source, Pushed):
            return
        try:
            await self._opened.wait()
            until = time.monotonic() + BACKLOG_S
            while self._source.live and not self._slot.over and time.monotonic() < until:
                if time.monotonic() - (self._resilience.last or 0.0) > WAITED_S:
                    break
                await asyncio.sleep(WAITED_S)
        except BaseException:
            self.stop()
            raise
        if self._slot.error is not None:
            raise self._slot.error

    def age(self, now: float) -> float | None:
        """See `FrameSource`. The time of a recorded frame that waits begins when it is taken."""
        age = self._slot.age(now)
        return 0.0 if age is not None and self._recorded else age

    @property
    def _recorded(self) -> bool:
        return self.waits and not self._source.live

    def start(self, arrived: Callable[[], object] = _ignore) -> None:
        """Frames are numbered from 0 from here on, but for pushed ones, which have their numbers.

        Opens the source if nobody did; `next` says then what is wrong with it.
        """
        if self._loop is None:
            self._begin()
        self._slot.on_arrival = arrived
        self._slot.start(count_kept=not isinstance(self._source, Pushed))

    def drop(self, index: int, reason: str) -> None:
        """A frame that was given is not taken in after all."""
        self._slot.refuse(index, reason)

    def stop(self) -> None:
        """No more frames; the one that waits is dropped. Idempotent."""
        self._slot.stop()
        self._slot.post(self._opened.set)

    async def next(self) -> Frame | None:
        """The newest frame, once there is one; None at the end.

        Raises:
            Exception: what went wrong in the source, at its end.
        """
        while True:
            frame = self._slot.take()
            if frame is not None:
                return replace(frame, captured=time.monotonic()) if self._recorded else frame
            if self._slot.over:
                if self._slot.error is not None and not self._slot.stopped:
                    raise self._slot.error
                return None
            await self._slot.wait()

    async def close(self) -> None:
        """Let go of the source, from any state. One that hangs is left to itself after a moment."""
        self.stop()
        self._arm()
        if isinstance(self._source, Pushed):
            if self._loop is not None:
                self._source.detach()
        elif self._loop is not None:
            closed = asyncio.Event()
            threading.Thread(target=self._close, args=(self._source, closed), name="close source", daemon=True).start()
            try:
                async with asyncio.timeout(CLOSE_S + 0.1):
                    await closed.wait()
            except TimeoutError:
                log.warning("%s hangs and is left to itself", self.name)
        self._slot.tell()

    def _close(self, source: Source, closed: asyncio.Event) -> None:
        until = time.monotonic() + CLOSE_S
        readers = self._hanging if self._reader is None else [self._reader, *self._hanging]
        for reader in readers:
            reader.join(max(0.0, until - time.monotonic()))
        try:
            if not any(reader.is_alive() for reader in readers):
                source.close()
        except Exception:
            log.exception("closing %s failed", source.name)
        self._slot.post(closed.set)

    # The reader's thread

    def _run(self, source: Source) -> None:
        error: BaseException | None = None
        why: str | None = None
        try:
            why = read(source, partial(self._deliver, source), loop=self._config.loop)
        except BaseException as failure:  # for whoever waits in `next`, or a reason to open it again
            error = failure
        self._slot.post(self._reader_ended, threading.current_thread(), why, error)

    def _deliver(self, source: Source, picture: Picture | Unusable, now: float) -> bool:
        """See `Deliver`."""
        slot, took = self._slot, now - self._read_from
        if not self._opened.is_set():
            if not source.live and self._rate is None:
                self._rate = source.fps
            slot.post(self._on_opened)
        with slot.changed:
            if self._gone():
                return False
            if source.live:
                self._alive(now)
                if slot.begun is not None and self._rate is not None:
                    if now < self._due:
                        return True  # a camera faster than --fps: as if it had not seen this
                    self._due = max(self._due, now - 0.5 / self._rate) + 1 / self._rate
            else:
                now = self._pace()
            if self.waits and slot.begun is not None:
                slot.changed.wait_for(lambda: slot.free or self._gone())
            slot.changed.wait_for(lambda: not slot.crowded or self._gone())
            if self._gone():
                return False
            self._number(source, picture, now)
            if not source.live:
                self._pace(early_s=AHEAD * took)
                self._read_from = time.monotonic()
            return not self._gone()

    def _pace(self, *, early_s: float = 0.0) -> float:
        """Until the time of a recorded source's next picture, or so much earlier; gives the time then."""
        slot = self._slot
        slot.changed.wait_for(lambda: slot.begun is not None or self._gone())
        if self._rate is not None and not self._config.unpaced and slot.begun is not None:
            due = slot.begun + slot.captured / self._rate - early_s
            slot.changed.wait_for(self._gone, max(0.0, due - time.monotonic()))
        return time.monotonic()

    def _number(self, source: Source, picture: Picture | Unusable, now: float) -> None:
        """A picture that is there, in its time."""
        counted = self._slot.begun is not None
        if isinstance(picture, Picture):
            if source.live or source.fps is not None:
                self._look_at_size(picture.pixels, now)
            captured = now if picture.captured is None else picture.captured
            self._slot.put(Frame(self.captured, picture.pixels, captured, picture.origin), counted=counted)
        elif counted:
            self._slot.drop(self.captured, "bad_frame")
            if picture.origin is not None and self.dropped["bad_frame"] <= MOST_NAMED:
                self._tell(Warned(now, picture.why))

    def _gone(self) -> bool:
        """Whether nobody wants more of the reader that asks."""
        return self._slot.over or self._reader is not threading.current_thread()

    # Who pushes

    def _pushed(self, number: int, pixels: Pixels, captured: float) -> None:
        with self._slot.changed:
            if self._slot.over:
                self._slot.drop(number, "stopped")
                return
            now = time.monotonic()
            self._alive(now)
            self._look_at_size(pixels, now)
            self._slot.put(Frame(number, pixels, captured), counted=True)

    def _pushed_all(self) -> None:
        self._slot.post(self._finish, "", None)

    # Both

    def _alive(self, now: float) -> None:
        began, away_s = self._resilience.delivered(now)
        if away_s is not None:
            self._tell(SourceBack(now, self.name, away_s))
        if began:
            self._slot.post(self._arm)

    def _look_at_size(self, pixels: Pixels, now: float) -> None:
        size = pixels.shape[0], pixels.shape[1]
        if self._size is not None and self._size != size:
            self._tell(SourceChanged(now, self.name, self._size, size))
        self._size = size

    def _tell(self, event: Event) -> None:
        self._slot.note(partial(self._on_event, event))

    # The event loop

    def _begin(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._slot.use(self._loop)
        if isinstance(self._source, Pushed):
            for number in self._source.attach(Taker(self._pushed, self._pushed_all)):
                self._slot.drop(number, "superseded")
        else:
            self._read(time.monotonic())

    def _read(self, now: float) -> None:
        """Open the source, for the first time or again."""
        with self._slot.changed:
            self._resilience.opening(now)
            self._reader = threading.Thread(target=self._run, args=(self._source,), name="source", daemon=True)
            self._reader.start()
        self._arm()

    def _on_opened(self) -> None:
        self._opened.set()
        self._arm()

    def _arm(self) -> None:
        """One timer for all that a live source is waited for, and for the first opening of any."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        with self._slot.changed:
            when = self._resilience.timer()
        watched = self._source.live or not self._opened.is_set()
        if when is not None and watched and self._loop is not None and not self._slot.over:
            self._timer = self._loop.call_later(max(0.0, when - time.monotonic()), self._watch)

    def _watch(self) -> None:
        """What the timer does."""
        now = time.monotonic()
        with self._slot.changed:
            if (
                self.waits and self._resilience.playing and not self._slot.free
            ):  # its picture waits, so that it may be silent
                self._resilience.delivered(now)
            act = None if self._slot.over else self._resilience.due(now)
            if act is Act.LEAVE and self._reader is not None:
                self._hanging.append(self._reader)
        if act is Act.LEAVE:
            silent_s = self._config.source_timeout_s * (1 if self._resilience.playing else OPENING)
            self._lose(SourceError(f"{self.name} gives nothing for {silent_s:g} s"))
        elif act is Act.GIVE_UP:
            said = f"away for more than {self._config.give_up_after_s:g} s: {self._cause}"
            self._finish(said, SourceError(f"{self.name}: {said}"))
        elif act is Act.OPEN:
            self._hanging = [reader for reader in self._hanging if reader.is_alive()]
            if len(self._hanging) < MOST_HANGING:
                self._read(now)
            else:
                self._resilience.failed(now)
        self._arm()

    def _reader_ended(self, reader: threading.Thread, why: str | None, error: BaseException | None) -> None:
        if reader is not self._reader or self._slot.over:
            return
        if error is not None and self._source.live:
            self._lose(error)
        else:
            self._finish(why, error)

    def _lose(self, error: BaseException) -> None:
        """The reader there was is none any more: it ended, or hangs."""
        self._cause = (str(error) or type(error).__name__).removeprefix(self.name).lstrip(": ")
        with self._slot.changed:
            self._reader, now = None, time.monotonic()
            if self._resilience.failed(now):
                self._tell(SourceLost(now, self.name, self._cause))
        if not self._resilience.worked:
            self._finish(None, error)
        self._arm()

    def _finish(self, why: str | None, error: BaseException | None) -> None:
        """Nothing more comes. why: what there is to say of the source's end; None: nothing."""
        if self._slot.ended or self._slot.stopped:
            return
        if why is not None:
            self._tell(SourceEnded(time.monotonic(), self.name, why))
        self._slot.finish(error)
        self._opened.set()
        self._arm()
