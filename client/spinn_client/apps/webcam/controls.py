"""Camera, streams, server and link in one place: what a person can change, and what all pages show."""

from __future__ import annotations

import asyncio
import threading
import time
from collections import deque
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

from spinn_client import (
    DeviceConfig,
    Event,
    LinkConfig,
    Noted,
    PlanChanged,
    ServerBack,
    ServerLost,
    ServerRefusedUs,
    SpinnError,
    State,
    Warned,
)
from spinn_stream.bundle import DEFAULT_BUNDLE

from .backend import Backend, Link, read_trace
from .camera import SILENT_S, VISITOR, Camera, Shot
from .session import Answer, Session
from .timeline import STEP_S, Timeline
from .video import Hub, encode, in_json

NOTES = 30

T = TypeVar("T")


@dataclass(frozen=True)
class Note:
    """Something that happened, for people. at: of `time.monotonic`. trouble: a user should see it."""

    at: float
    text: str
    trouble: bool = False


@dataclass(frozen=True)
class Setup:
    """What the command line names.

    server: None: one of our own, with this bundle. traces: recorded networks by name. labels: see `Stream`.
    """

    source: str
    server: LinkConfig | None
    device: DeviceConfig
    traces: dict[str, Path]
    sla: str | None = None
    deadline_ms: float | None = None
    slowdown: float = 1.0
    compare: bool = False
    bundle: Path = DEFAULT_BUNDLE
    labels: str | None = None


class Controls:
    """Pages call its methods in their event loop; slow work happens in threads.

    Args:
        on_shot, on_answer: for a recorder; called in the camera's and the streams' threads.
    """

    def __init__(
        self,
        setup: Setup,
        *,
        on_shot: Callable[[int, Shot], object] = lambda number, shot: None,
        on_answer: Callable[[Answer], object] = lambda answer: None,
        on_event: Callable[[Event], object] = lambda event: None,
    ) -> None:
        self.setup = setup
        self.hub, self.timeline = Hub(), Timeline()
        self.notes: deque[Note] = deque(maxlen=NOTES)
        self.reason = ""  # the scheduler's, in words
        self.state: State | None = None
        self.comparing = setup.compare
        self.visitor = ""  # the page whose camera is used
        self._on_shot, self._on_answer, self._on_event = on_shot, on_answer, on_event
        self._silent = False
        self._compared_by = ""  # the address by which the server alone is asked
        self._loop: asyncio.AbstractEventLoop | None = None
        self.backend = Backend(
            setup.server.url if setup.server else None, self.trouble, bundle=setup.bundle, runtime=setup.device.runtime
        )
        self.session = Session(setup.device, self._answered, self._told, self.trouble, labels=setup.labels)
        wish = self.session.wish
        self.session.wish = replace(
            wish, sla=setup.sla or wish.sla, deadline_ms=setup.deadline_ms or wish.deadline_ms, slowdown=setup.slowdown
        )
        self.camera = Camera(self._shot, self.trouble)

    async def start(self) -> None:
        """Open the streams, then start our server, which measures the machine at its first start.

        Raises:
            SpinnError: the device cannot answer.
        """
        self._loop = asyncio.get_running_loop()
        self.timeline.deadline_ms = self.session.wish.deadline_ms
        way = await asyncio.to_thread(self._way)
        await self._do(self.session.open(way))
        self.camera.use(self.setup.source)
        if self.backend.named is None:
            await self.start_server()
        if self.setup.compare:
            await self.compare(True)

    def look(self) -> None:
        """Take a sample of everything, every STEP_S."""
        seen = self.session.look()
        self.state = seen[0] if seen is not None else None
        link = self.backend.link
        imposed = (0.0 if self.backend.outage else link.mbps) if self.backend.shaped else None
        self.timeline.sample(time.monotonic(), seen, imposed)
        expected = self.visitor != "" if self.camera.source == VISITOR else self.camera.source != ""
        silent = expected and self.camera.silent_s > SILENT_S
        if silent and not self._silent:
            self.trouble(f"{self.camera_in_words} gives no pictures for {SILENT_S:.0f} s")
        self._silent = silent

    async def look_on(self) -> None:
        """`look` again and again."""
        while True:
            self.look()
            await asyncio.sleep(STEP_S)

    # What people change

    async def agree(self, sla: str | None = None, deadline_ms: float | None = None) -> None:
        """Raises: ConfigError, ValueError: what cannot be had."""
        await self._do(self.session.agree(sla, deadline_ms))
        self.timeline.deadline_ms = self.session.wish.deadline_ms

    async def slow_down(self, factor: float) -> None:
        await self._do(self.session.slow_down(factor))

    async def set_link(self, link: Link) -> None:
        await asyncio.to_thread(self.backend.set_link, link)

    async def set_outage(self, outage: bool) -> None:
        await asyncio.to_thread(self.backend.set_outage, outage)
        self.say("the link is cut" if outage else "the link is whole again")

    async def play(self, name: str) -> None:
        """Play a recorded network; no name: keep the present link.

        Raises:
            SpinnError: it cannot be read.
        """
        if name:
            trace = await asyncio.to_thread(read_trace, self.setup.traces[name])
            self.backend.play(name, trace)
        else:
            await asyncio.to_thread(self.backend.set_link, self.backend.link)

    async def kill_server(self) -> None:
        await asyncio.to_thread(self.backend.kill_server)
        self.say("the server was killed (kill -9)")

    async def start_server(self) -> None:
        self.say("the server is starting")
        await asyncio.to_thread(self.backend.start_server)

    async def compare(self, comparing: bool) -> None:
        """Let the device alone and the server alone answer the same pictures, or stop that."""
        self.comparing = comparing
        if comparing and not self._compared_by:
            way = await asyncio.to_thread(self._way)
            self._compared_by = way.url
            try:
                await self._do(self.session.compare(way))
            except BaseException:
                await self.compare(False)
                raise
        elif not comparing and self._compared_by:
            url, self._compared_by = self._compared_by, ""
            await self._do(self.session.stop_comparing())
            await asyncio.to_thread(self.backend.end_way, url)

    def use_camera(self, source: str) -> None:
        """Use a source by its name. VISITOR: a page's camera; that page then begins to send."""
        if source != VISITOR:
            self.visitor = ""
        self.camera.use(source)

    # What pages show

    @property
    def camera_in_words(self) -> str:
        source = self.camera.source
        return {VISITOR: "the visitor's camera", "demo": "the built-in clip"}.get(
            source, f"camera {source}" if source.isdecimal() else source
        )

    @property
    def server_in_words(self) -> str:
        """What is known of the server, for people."""
        backend, link = self.backend, self.state.link if self.state else "away"
        if link == "up":
            rtt = self.state.rtt_ms if self.state else None
            return "connected" + (f", round trip {rtt:.0f} ms" if rtt is not None else "")
        if backend.named is not None:
            return "unreachable: trying again"
        if backend.starting:
            return "starting"
        return "connecting" if backend.running else "not running"

    def say(self, text: str) -> None:
        """For people, from any thread."""
        self.notes.append(Note(time.monotonic(), text))

    def trouble(self, text: str) -> None:
        self.notes.append(Note(time.monotonic(), text, trouble=True))

    def close(self) -> None:
        """End everything; blocks for some seconds at most."""
        self.camera.close()
        ending = threading.Thread(target=self.backend.close, name="end processes")
        ending.start()
        self.session.close()
        ending.join()

    # Inside

    async def _do(self, work: Coroutine[Any, Any, T]) -> T:
        return await asyncio.wrap_future(self.session.do(work))

    def _way(self) -> LinkConfig:
        named = self.setup.server or LinkConfig("ws://")
        return replace(named, url=self.backend.way(), allow_offline=True)

    def _shot(self, shot: Shot) -> None:
        number = self.session.push(shot)
        self._on_shot(number, shot)
        if self._loop is not None and self.hub.watched:
            self._on_page(self.hub.picture, encode(number, shot))

    def _answered(self, answer: Answer) -> None:
        self.timeline.add(answer)
        self._on_answer(answer)
        if self.hub.watched:
            self._on_page(self.hub.answer, answer.lane, in_json(answer))

    def _told(self, event: Event) -> None:
        self._on_event(event)
        if isinstance(event, PlanChanged):
            self.reason = event.reason or "as asked"
        elif not isinstance(event, Noted) and not (isinstance(event, Warned) and self._starts_alone):
            self.notes.append(
                Note(event.at, event.text, trouble=isinstance(event, Warned | ServerLost | ServerRefusedUs))
            )
        if isinstance(event, ServerBack):
            self.backend.starting = False

    @property
    def _starts_alone(self) -> bool:
        """Whether our own server has not started yet, so that it is no news that it cannot be reached."""
        return self.backend.named is None and self.backend.server is None

    def _on_page(self, function: Callable[..., object], *arguments: object) -> None:
        try:
            if self._loop is not None:
                self._loop.call_soon_threadsafe(function, *arguments)
        except RuntimeError:
            pass  # the pages' loop has ended


async def attempt(work: Coroutine[Any, Any, object]) -> str:
    """Do what a person asked for. Returns an error for people, or an empty text."""
    try:
        await work
    except (SpinnError, ValueError) as error:
        return str(error)
    return ""
