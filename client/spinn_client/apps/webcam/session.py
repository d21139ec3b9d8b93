"""The streams: our own and, if asked for, the device alone and the server alone on the same pictures."""

from __future__ import annotations

import asyncio
import concurrent.futures
import threading
import time
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, replace
from typing import Any, Literal, TypeVar

import uvloop

from spinn_client import (
    DeviceConfig,
    Event,
    LinkConfig,
    Noted,
    Pushed,
    Result,
    ServerBack,
    ServerLost,
    SpinnError,
    State,
    Stream,
    StreamEnded,
    tune_process,
)
from spinn_client.link.estimate import LinkEstimate, LinkReading
from spinn_stream.plan import DEFAULT_SLA, Figures

from .camera import Shot

LaneName = Literal["ours", "device", "server"]

MOST_OPEN = 64
"""Pictures that are kept until their answers come, at most."""

CLOSE_S = 5.0

T = TypeVar("T")


@dataclass(frozen=True)
class Wish:
    """What a person asks for. slowdown: the factor by which everything on the device is slower."""

    sla: str = DEFAULT_SLA
    deadline_ms: float = 150.0
    slowdown: float = 1.0


@dataclass(frozen=True, eq=False)
class Answer:
    """A final result and its picture. number: of the picture, the same for all streams."""

    lane: LaneName
    number: int
    shot: Shot
    result: Result


class Lane:
    """One stream, and its pictures without an answer. `push` is called by one thread at a time."""

    def __init__(
        self, name: LaneName, on_answer: Callable[[Answer], object], on_event: Callable[[Event], object],
        **options: Any,
    ) -> None:  # fmt: skip
        self.name = name
        self._on_answer = on_answer
        self._pushed = Pushed(name="the camera", one_camera=True)
        self._open: dict[int, tuple[int, Shot]] = {}  # by the stream's own number
        self._count = 0
        self.stream = Stream(self._pushed, on_result=self._answered, on_event=on_event, **options)

    def push(self, number: int, shot: Shot) -> None:
        """Hand in a picture of this number."""
        self._open[self._count] = number, shot
        self._open.pop(self._count - MOST_OPEN, None)
        self._count += 1
        self._pushed.push(shot.pixels, shot.captured)

    def _answered(self, result: Result) -> None:
        found = self._open.pop(result.frame, None)
        if result.kind == "final" and found is not None:
            self._on_answer(Answer(self.name, *found, result))


class Session:
    """Runs the streams in an event loop and a thread of their own, so that no page keeps an answer waiting.

    Args:
        on_answer, on_event: called in that thread; events are of our own stream.
        say: gets one line for people. labels: see `Stream`.
    """

    def __init__(
        self,
        device: DeviceConfig,
        on_answer: Callable[[Answer], object],
        on_event: Callable[[Event], object],
        say: Callable[[str], object],
        *,
        labels: str | None = None,
    ) -> None:
        self._device, self._on_answer, self._on_event, self._say = device, on_answer, on_event, say
        self._labels = labels
        self.wish = Wish()
        self.at = "loading"  # what the start is busy with
        self._lanes: dict[str, Lane] = {}
        self._shots = 0
        self._estimate: LinkEstimate | None = None
        self._loop = uvloop.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="streams", daemon=True)
        self._thread.start()

    def do(self, work: Coroutine[Any, Any, T]) -> concurrent.futures.Future[T]:
        """Run one of the coroutines below; from any thread."""
        return asyncio.run_coroutine_threadsafe(work, self._loop)

    async def open(self, server: LinkConfig | None) -> None:
        """Open our own stream, which may begin without the server.

        Raises:
            SpinnError: bundle or engine cannot be used.
        """
        lane = self._lane("ours", self._told, server, sla=self.wish.sla)
        await lane.stream.open()
        self._estimate = LinkEstimate(time.monotonic())
        lane.stream.observe_link(self._estimate)
        lane.stream.slow_down(self.wish.slowdown)
        self._lanes["ours"] = lane
        tune_process()

    async def compare(self, server: LinkConfig) -> None:
        """Let the device alone and the server alone answer the same pictures from now on."""
        for lane in (
            self._lane("device", self._ignored, None, policy="device-only"),
            self._lane("server", self._ignored, server, policy="server-only"),
        ):
            if lane.name in self._lanes:
                continue
            await lane.stream.open()
            lane.stream.slow_down(self.wish.slowdown)
            self._lanes[lane.name] = lane

    async def stop_comparing(self) -> None:
        """Our own stream alone again."""
        lanes = [self._lanes.pop(name) for name in ("device", "server") if name in self._lanes]
        await asyncio.gather(*(lane.stream.close() for lane in lanes))

    async def agree(self, sla: str | None = None, deadline_ms: float | None = None) -> None:
        """Set another SLA, or another deadline, which holds for all streams.

        Raises:
            ValueError, ConfigError: what cannot be had; all stays as it was.
        """
        ours = self._lanes.get("ours")
        if ours is not None:
            await ours.stream.agree(sla, deadline_ms=deadline_ms)
        for lane in self._others():
            if deadline_ms is not None:
                await lane.stream.agree(deadline_ms=deadline_ms)
        self.wish = replace(self.wish, sla=sla or self.wish.sla, deadline_ms=deadline_ms or self.wish.deadline_ms)

    async def slow_down(self, factor: float) -> None:
        """Let everything on the device take this many times as long, in all streams."""
        for lane in list(self._lanes.values()):
            lane.stream.slow_down(factor)
        self.wish = replace(self.wish, slowdown=factor)

    def push(self, shot: Shot) -> int:
        """A picture, to all streams; by one thread at a time. Returns its number."""
        number, self._shots = self._shots, self._shots + 1
        for lane in list(self._lanes.values()):
            try:
                lane.push(number, shot)
            except SpinnError:
                continue  # it has just ended
        return number

    @property
    def opened(self) -> bool:
        return "ours" in self._lanes

    @property
    def comparing(self) -> bool:
        return len(self._lanes) > 1

    @property
    def names(self) -> tuple[list[str], list[str]]:
        """Names of the cut points and of the exits, from the first to the last; empty before it is open."""
        ours = self._lanes.get("ours")
        if ours is None:
            return [], []
        bundle = ours.stream.bundle
        return [point.name for point in bundle.cut_points], [exit.name for exit in bundle.exits]

    def look(self) -> tuple[State, Figures | None, LinkReading | None] | None:
        """Our stream's state, its forecast, and the link's reading since the last call; None: not open.

        There may be only one caller, since a reading covers the time since the last one.
        """
        ours = self._lanes.get("ours")
        if ours is None:
            return None
        try:
            state = ours.stream.state
        except StreamEnded:
            return None
        reading = self._estimate.reading(time.monotonic()) if self._estimate is not None else None
        return state, ours.stream.forecast(), reading

    def close(self) -> None:
        """End all streams, from any state."""

        async def close() -> None:
            lanes, self._lanes = list(self._lanes.values()), {}
            await asyncio.gather(*(lane.stream.close() for lane in lanes))

        try:
            self.do(close()).result(CLOSE_S)
        except TimeoutError:
            pass
        finally:
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join(1)

    def _lane(
        self, name: LaneName, on_event: Callable[[Event], object], server: LinkConfig | None, **asked: str
    ) -> Lane:
        return Lane(
            name, self._on_answer, on_event, server=server, deadline_ms=self.wish.deadline_ms, labels=self._labels,
            device=self._device, **asked,
        )  # fmt: skip

    def _others(self) -> list[Lane]:
        return [lane for name, lane in list(self._lanes.items()) if name != "ours"]

    def _told(self, event: Event) -> None:
        if isinstance(event, Noted):
            self.at = event.what
        self._on_event(event)

    def _ignored(self, event: Event) -> None:
        """Events of the comparison are not shown: its answers show them, and our own stream reports the link's."""
        if not isinstance(event, ServerLost | ServerBack | Noted):
            return
