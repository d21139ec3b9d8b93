"""A stream: one source's frames, answered. The only place where a client is put together."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, TypeVar

import numpy as np
import numpy.typing as npt

from spinn_client.device.camera_answers import NOTHING_MADE, CameraAnswers
from spinn_client.device.device import Device
from spinn_client.device.opening import DeviceConfig, open_here
from spinn_client.events import Event, Noted, PlanChanged, SourceBack, SourceLost, Warned
from spinn_client.frames.feed import Feed, FeedConfig
from spinn_client.frames.flight import checked_deadline, deadline_warning
from spinn_client.frames.ledger import Ledger
from spinn_client.frames.pipeline import Pipeline
from spinn_client.frames.results import Result
from spinn_client.frames.slot import FrameSource
from spinn_client.labels import checked_level, labels_of
from spinn_client.link.config import LinkConfig, configs_of
from spinn_client.link.opening import make_link, open_first
from spinn_client.outlets import Outlets
from spinn_client.parts import Parts
from spinn_client.sinks.base import Sink
from spinn_client.sources.base import Source
from spinn_client.sources.pushed import Pushed
from spinn_client.sources.registry import open_source
from spinn_client.state import Counts, Rate, State
from spinn_client.steering.guide import Asked, FixedPlan, Guide, resolved
from spinn_client.steering.steering import Steering
from spinn_stream.bundle import Bundle, load_bundle
from spinn_stream.errors import ConfigError, SpinnError, StreamEnded
from spinn_stream.plan import DEFAULT_SLA, EnergyRates, Figures, Plan
from spinn_stream.runtime.machine.host import Host, Slowed

if TYPE_CHECKING:
    from spinn_client.link.connection import LinkObserver
    from spinn_client.link.link import Link

CLOSE_S = 1.5  # how long leaving a stream waits for its tasks
T = TypeVar("T")


class Stream:
    """Frames of a source, answered by this device and a server, each by its deadline.

        async with Stream("clip.mp4", server="ws://127.0.0.1:8765") as stream:
            async for result in stream: ...

    Belongs to the event loop in which it is opened. Several streams may run side by side.

    Args:
        source: as `--source` takes it, or a `Source`, or `Pushed` for a program's own frames.
        server: ws://HOST:PORT, or more in a `LinkConfig`, or several, the preferred one first; None: the device alone.
        deadline_ms: age by which every frame has its final result, counted from its capture.
        sla, policy: the goal, and the policy that plans. plan: fixes the plan instead; or an `Asked`, with a policy and
            an SLA of your own.
        labels: groups of classes to answer with: the name of a map (`everyday`), a file, or class -> group.
        unknown_below: a less confident answer is labelled "unknown"; its top-k stays.
        provisional, late: also give results of unsure local exits, and the server's answers after the final result.
        feed, device: how the source is played, and what runs here. sinks: get every result and event; the stream closes
            them. on_result, on_event: called on the event loop; if they raise, a warning says so.

    Raises:
        ValueError: a value is out of its range. ConfigError: an SLA or a policy cannot be understood.
    """

    def __init__(
        self,
        source: str | int | Path | Source | Pushed,
        *,
        server: str | LinkConfig | Sequence[str | LinkConfig] | None = None,
        deadline_ms: float = 150.0,
        sla: str | None = None,
        policy: str | None = None,
        plan: FixedPlan | Plan | Asked | None = None,
        labels: str | Path | Mapping[str, str] | None = None,
        unknown_below: float | None = None,
        provisional: bool = False,
        late: bool = False,
        feed: FeedConfig = FeedConfig(),  # noqa: B008  # frozen
        device: DeviceConfig = DeviceConfig(),  # noqa: B008  # frozen
        sinks: Sequence[Sink] = (),
        on_result: Callable[[Result], object] | None = None,
        on_event: Callable[[Event], object] | None = None,
        parts: Parts | None = None,
    ) -> None:
        if plan is not None and (sla is not None or policy is not None):
            raise ConfigError("a fixed plan leaves nothing to a policy or an SLA: give one or the other")
        self._source_asked = source
        self._servers = configs_of(server)
        self._deadline_ms = checked_deadline(deadline_ms)
        self._sla_text, self._policy_name = sla or DEFAULT_SLA, policy or "spinn"
        self._asked: FixedPlan | Plan | Asked = (
            plan if plan is not None else Asked.of(self._policy_name, self._sla_text)
        )
        self._provisional, self._late = provisional, late
        self._labels, self._unknown_below = labels, checked_level(unknown_below)
        self._feed_config, self._device_config = feed, device
        self._parts = parts or Parts()
        self._now = self._parts.host.clock
        self._slowed = Slowed(device.slowdown)
        self._host = Host(pace=self._slowed) if parts is None else parts.host
        self._stop_measuring, self._sinks = threading.Event(), tuple(sinks)
        self._outlets = Outlets(self._sinks, on_result, on_event, self._failed, self._now)
        self._counts, self._rate = Counts(), Rate()
        self._plan: Plan | None = None  # the newest, and why it is
        self._reason: str | None = None
        self._pushed = source if isinstance(source, Pushed) else None
        self._feed: FrameSource | None = None
        self._answers = NOTHING_MADE
        self._link: Link | None = None
        self._device: Device | None = None
        self._steering: Steering | None = None
        self._pipeline: Pipeline | None = None
        self._running: asyncio.Task[None] | None = None
        self._opening: asyncio.Task[Any] | None = None
        self._closed = self._source_up = False
        self.error: Exception | None = None

    # Opening and closing

    async def __aenter__(self) -> Self:
        await self.open()
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.close()

    async def open(self) -> None:
        """Connect, measure the machine if that was never done, choose a first plan, and begin with frames.

        Raises:
            SpinnError: source, server, bundle or engine cannot be used; says which, and what to do.
        """
        self._loop, self._opening = asyncio.get_running_loop(), asyncio.current_task()
        self._aside = self._parts.host.worker("opening")
        try:
            await self._open()
        except BaseException:
            await self.close()
            raise
        finally:
            self._opening = None

    async def _open(self) -> None:
        config = self._device_config
        given = config.bundle
        bundle = self.bundle = given if isinstance(given, Bundle) else await self._in_thread(load_bundle, given)
        if isinstance(self._asked, FixedPlan):
            self._asked = self._asked.of(bundle, has_server=bool(self._servers))
        names = labels_of(bundle, self._labels)
        feed = await self._open_feed()
        if self._servers:
            self._link = await self._in_thread(make_link, self._servers, bundle, names.group_of, self._host,
                                               self._parts.rng, self._parts.dial)  # fmt: skip
            await open_first(self._link, lambda text: self._tell(Warned(self._now(), text)))
        made = self._parts.engine
        engine, profile = await self._in_thread(
            open_here, bundle, config, partial(self._tell_from_thread, Noted), partial(self._tell_from_thread, Warned),
            self._stop_measuring.is_set,
        ) if made is None else made  # fmt: skip
        self._device = Device(bundle, engine, profile, every_exit=self._provisional, group_of=names.group_of,
                              host=self._host)  # fmt: skip
        ours = isinstance(self._asked, Asked) and self._asked.policy.name == "spinn"
        self._answers = CameraAnswers.of(bundle, config, one_camera=feed.one_camera, ours=ours)
        guide = await self._in_thread(self._guide, self._asked)
        await self._in_thread(self._device.prepare, guide.plan)
        if (warning := deadline_warning(self._deadline_ms, self._device.first_exit_ms(0))) is not None:
            self._tell(Warned(self._now(), warning))
        self._ledger = Ledger(names.names, provisional=self._provisional, late=self._late,
                              unknown_below=self._unknown_below)  # fmt: skip
        self._pipeline = Pipeline(
            bundle, self._device, feed, self._ledger, guide, self._link,
            deadline_ms=self._deadline_ms, unpaced=self._feed_config.unpaced, keep_late=self._late,
            emit=self._emit, tell=self._tell,
            wait_for=self._outlets.wait_for_reader if self._feed_config.unpaced else None, answers=self._answers,
            host=self._host,
        )  # fmt: skip
        self._tell(PlanChanged(self._now(), guide.plan, guide.reason))
        self._source_up = True
        for sink in self._sinks:
            sink.begin(partial(self._tell_from_thread, Warned))
        self._parts.began()
        self._running = self._loop.create_task(self._run(self._pipeline), name="stream")

    async def _open_feed(self) -> FrameSource:
        feed: FrameSource
        if self._parts.feed is not None:
            feed = self._parts.feed()
        else:
            asked = self._source_asked
            if isinstance(asked, str | int | Path):
                asked = await self._in_thread(open_source, str(asked))
            feed = Feed(asked, self._feed_config, on_event=self._tell, on_drop=self._outlets.dropped)
        self._feed = feed
        await feed.open()
        return feed

    def _guide(self, asked: Plan | Asked) -> Guide:
        """Runs in a thread. Gives what decides on plans."""
        assert self._device is not None and self._feed is not None
        if isinstance(asked, Plan):
            return Guide(resolved(self.bundle, asked))
        self._steering = Steering(
            self.bundle, asked, self._device, self._link, deadline_ms=self._deadline_ms,
            fps=self._feed_config.fps or self._feed.fps, unpaced=self._feed_config.unpaced,
            rates=EnergyRates.of_cores(self._device_config.engine_threads), answers=self._answers, host=self._host,
        )  # fmt: skip
        return self._steering

    async def _run(self, pipeline: Pipeline) -> None:
        try:
            await pipeline.run()
        except Exception as error:  # every frame was answered; the reader of results gets it at their end
            self.error = self.error or error
        finally:
            self._source_up = False
            self._outlets.no_more_results()

    async def ended(self) -> None:
        """Wait until the source has ended and every frame has its final result. Others may read results meanwhile."""
        if self._running is not None:
            await asyncio.wait([self._running])

    def stop(self) -> None:
        """No more frames. Those taken in are answered; results end after the last one."""
        if self._feed is not None:
            self._feed.stop()

    async def close(self, sinks_s: float = 0.4) -> None:
        """End everything within 2 s, from any state. Frames without a final result get the best answer so far.

        sinks_s: how long sinks may take to write what they still have, in seconds on top of the rest.
        """
        if self._closed:
            return
        self._closed = True
        self._stop_measuring.set()
        self._outlets.no_more_results()
        if self._opening not in (None, asyncio.current_task()):
            self._opening.cancel()
        ending: list[Coroutine[Any, Any, object]] = []
        if self._pipeline is not None and self._running is not None:
            self._pipeline.end_now()
            ending.append(asyncio.wait([self._running], timeout=CLOSE_S))
        elif self._link is not None:
            ending.append(self._link.close())
        if self._feed is not None:
            ending.append(self._feed.close())
        await asyncio.gather(*ending, return_exceptions=True)
        if self._running is not None:
            self._running.cancel()
        if self._steering is not None:
            self._steering.close()
        if self._device is not None:
            self._device.close()
        self._aside.shutdown(wait=False, cancel_futures=True)
        await self._outlets.close(sinks_s)

    # Results, events and state

    def __aiter__(self) -> AsyncIterator[Result]:
        return self

    async def __anext__(self) -> Result:
        """The next result, in the order they are ready.

        Raises:
            SpinnError: what ended the stream, after its last result.
        """
        result = await self._outlets.results.get()
        if result is not None:
            return result
        if self.error is not None and not self._closed:
            raise self.error
        raise StopAsyncIteration

    def events(self) -> AsyncIterator[Event]:
        """Events from now on, until the stream is closed. If they are not read, the oldest are dropped."""
        return self._outlets.events()

    async def ask(self, pixels: npt.NDArray[np.generic], captured: float | None = None) -> Result:
        """Push one picture to the stream's `Pushed` source, and wait for its final result.

        Args:
            pixels: as `Pushed.push` takes them. captured: when, in seconds of `time.monotonic`; None: now.

        Raises:
            ValueError: not a picture. FrameDropped: a newer one took its place, or it was too old.
            StreamEnded: the stream has ended. ConfigError: the source is not a `Pushed`.
        """
        if self._pushed is None:
            raise ConfigError("only a stream whose source is spinn_client.Pushed() can be asked about a picture")
        if self._closed or self._running is None or self._running.done():
            raise StreamEnded("the stream has ended, or was never opened")
        return await self._outlets.answer(self._pushed.push(pixels, captured))

    @property
    def state(self) -> State:
        """A snapshot. Any thread may read it once the stream is open."""
        pipeline, feed, link, device = self._pipeline, self._feed, self._link, self._device
        if pipeline is None or feed is None or device is None or self._plan is None:
            raise StreamEnded("the stream was never opened")
        return State.of(
            self._now(), feed, link, device, self._plan, self._reason, self._counts, self._rate,
            source_up=self._source_up, taken=pipeline.taken, late=self._ledger.late_answers, limited=pipeline.limited,
            unread=self._outlets.results.dropped, answers=self._answers,
        )  # fmt: skip

    # Changing what is asked for

    async def agree(
        self, sla: str | None = None, *, policy: str | None = None, deadline_ms: float | None = None,
        plan: FixedPlan | Plan | None = None,
    ) -> None:  # fmt: skip
        """Change SLA, policy, deadline or plan from now on; the rest stays. An SLA or policy replaces a fixed plan.

        Raises:
            ConfigError, ValueError: a value cannot be used; all stays as it was.
        """
        pipeline = self._pipeline
        if pipeline is None or self._closed:
            raise StreamEnded("the stream has ended, or was never opened")
        if deadline_ms is not None:
            self._deadline_ms = checked_deadline(deadline_ms)
            pipeline.set_deadline(deadline_ms)
            if self._steering is not None:
                self._steering.deadline_ms = deadline_ms
        next_id = 1 if self._plan is None else self._plan.id + 1
        guide: Guide
        if plan is not None:
            fixed = plan if isinstance(plan, Plan) else plan.of(self.bundle, has_server=self._link is not None)
            guide = await self._in_thread(
                self._guide, Plan(next_id, fixed.split, fixed.confidence_threshold, fixed.codec)
            )
        elif sla is not None or policy is not None:
            before = self._sla_text, self._policy_name
            self._sla_text, self._policy_name = sla or self._sla_text, policy or self._policy_name
            try:
                asked = Asked.of(self._policy_name, self._sla_text)
                if self._steering is None:
                    await self._in_thread(self._guide, asked)
                assert self._steering is not None
                self._steering.agree(asked, next_id)
                guide = self._steering
            except ValueError:
                self._sla_text, self._policy_name = before
                raise
        else:
            return
        self._tell(PlanChanged(self._now(), guide.plan, guide.reason))
        pipeline.use_guide(guide)

    def slow_down(self, factor: float) -> None:
        """Let everything on the device take `factor` times as long from now on, 1 to 1000.

        It then behaves like a slower or a busy device. The profile stays the same, so the scheduler sees a load.
        """
        self._slowed.factor = Slowed(factor).factor

    def observe_link(self, observer: LinkObserver) -> None:
        """Let the observer know of every request, answer and ping from now on."""
        if self._link is not None:
            self._link.observe(observer)

    def forecast(self) -> Figures | None:
        """The predicted figures of the best plan from now on; None: the plan is fixed."""
        return None if self._steering is None else self._steering.forecast()

    # Inside

    async def _in_thread(self, work: Callable[..., T], *arguments: object) -> T:
        return await self._loop.run_in_executor(self._aside, partial(work, *arguments))

    def _emit(self, result: Result) -> None:
        self._counts.add(result)
        self._outlets.emit(result)

    def _failed(self, error: SpinnError) -> None:
        """The answers cannot be delivered: finish the open frames, and end."""
        self.error = self.error or error
        self.stop()

    def _tell(self, event: Event) -> None:
        if isinstance(event, PlanChanged):
            self._plan, self._reason = event.plan, event.reason
        elif isinstance(event, SourceLost | SourceBack):
            self._source_up = isinstance(event, SourceBack)
        self._outlets.tell(event)

    def _tell_from_thread(self, kind: type[Noted] | type[Warned], what: str) -> None:
        self._loop.call_soon_threadsafe(self._tell, kind(self._now(), what))
