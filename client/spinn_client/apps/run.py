"""One run: puts source, device, link and reports together, and takes them apart."""

from __future__ import annotations

import asyncio
import random
import signal
import time
from dataclasses import dataclass
from typing import Any

import cv2
from rich.console import Console

from spinn_client.device.device import Device
from spinn_client.frames.feed import Feed, FeedConfig
from spinn_client.frames.ledger import Ledger
from spinn_client.frames.pipeline import SPARE_MS, Pipeline
from spinn_client.frames.results import FrameResult
from spinn_client.link.connection import Link, LinkConfig
from spinn_client.sinks.jsonl import ResultLog
from spinn_client.sinks.live import LiveView
from spinn_client.sinks.summary import PlanUse, Tally, show_summary, summarise
from spinn_client.sinks.trace import TraceRecorder
from spinn_client.sources.base import Source
from spinn_client.steering.steering import Asked, Steering
from spinn_stream.bundle import Bundle
from spinn_stream.codec import default_setting
from spinn_stream.errors import ConfigError, ServerUnreachable
from spinn_stream.plan import Decision, LinkEstimate, Plan, PowerModel
from spinn_stream.runtime import open_engine, stored_profile
from spinn_stream.runtime.machine.background import shorten_pauses
from spinn_stream.runtime.machine.host import THIS_MACHINE, Host, Slowed

FASTER_THAN_PROFILED = 0.7


@dataclass(frozen=True)
class RunConfig:
    """How frames are treated and reported. plan: a fixed one, or what decides on plans."""

    plan: Plan | Asked
    deadline_ms: float = 150.0  # age by which every frame has its final result
    runtime: str = "auto"
    threads: int = 1  # of the engine
    slowdown: float = 1.0  # everything on the device takes so many times as long: to stand for a smaller one
    provisional: bool = False  # report unsure local exits, too
    late: bool = False  # report server answers that came after the final result, too
    allow_offline: bool = False  # begin alone where the server cannot be reached
    quiet: bool = False  # print nothing

    def __post_init__(self) -> None:
        if not 1 <= self.deadline_ms <= 600_000:
            raise ValueError(f"deadline_ms is {self.deadline_ms}, expected 1 to 600000")
        if self.threads < 1:
            raise ValueError(f"threads is {self.threads}, expected at least 1")
        if not 1 <= self.slowdown <= 1000:
            raise ValueError(f"the device's slowdown is {self.slowdown}, expected 1 to 1000")


class Run:
    """One call of `spinn run`."""

    def __init__(
        self,
        console: Console,
        bundle: Bundle,
        source: Source,
        feed: FeedConfig,
        link: LinkConfig | None,
        config: RunConfig,
    ) -> None:
        self._console = console
        self._bundle = bundle
        self._source = source
        self._feed_config = feed
        self._link_config = link
        self._config = config
        cv2.setNumThreads(config.threads)  # or resizing takes every core from the network
        self._device: Device  # from `main` on: what can be wrong besides is found before the machine is measured
        self._ledger = Ledger(bundle.labels, provisional=config.provisional, late=config.late)
        self._tally = Tally()
        self._link: Link | None = None
        self._traffic: tuple[float, int] = (time.monotonic(), 0)
        self._up_mbps = 0.0
        self._plans: list[PlanUse] = []
        self.steering: Steering | None = None  # from the first plan on, where a policy decides
        self.slowed: Slowed | None = None  # how slowly the device works, where that was asked for
        self.error: Exception | None = None

    async def main(self, results: ResultLog | None, recorder: TraceRecorder | None = None) -> dict[str, Any]:
        """Run to the end; gives the summary. A source that failed half-way is left in `error`.

        recorder: writes what the link shows; there must be a link.
        """

        def emit(result: FrameResult) -> None:
            self._tally.add(result)
            if results is None:
                return
            try:
                results.add(result)
            except ConfigError as error:  # nobody can read the answers: finish what is under way and end
                self.error = self.error or error
                feed.stop()

        feed = Feed(self._source, self._feed_config)
        await feed.open()
        pipeline = Pipeline(
            self._bundle,
            feed,
            self._ledger,
            deadline_ms=self._config.deadline_ms,
            unpaced=self._feed_config.unpaced,
            keep_late=self._config.late,
            emit=emit,
        )
        if self._link_config is not None:
            self._link = Link(self._link_config, self._bundle, pipeline, random.Random())
            await self._open(self._link)
            pipeline.use_link(self._link)
        loop = asyncio.get_running_loop()
        engine = await loop.run_in_executor(None, self._open_device)
        self._say(
            f"bundle {self._bundle.name} {self._bundle.hash[:12]}, engine {engine}, "
            f"source {self._source.name}: building the network ..."
        )
        plan = await self._first_plan(pipeline, feed)
        await loop.run_in_executor(None, self._device.prepare, plan)
        shorten_pauses()
        self._warn_of_deadline()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, feed.stop)
        view = LiveView(self._console, self._tally, self._state)
        if not self._config.quiet:
            view.start()
        began = time.monotonic()
        recording = self._record(recorder)
        try:
            await pipeline.run(self._device, plan)
        except Exception as error:  # every frame was answered; the figures are still worth showing
            self.error = error
        finally:
            await self._end(recorder, recording)
            await feed.close()
            if not self._config.quiet:
                view.stop()
            self._device.close()
        figures = summarise(
            self._tally,
            bundle=self._bundle,
            plans=self._plans,
            captured=feed.captured,
            taken=pipeline.taken,
            dropped=feed.dropped,
            late=self._ledger.late_answers,
            bytes_up=self._link.bytes_up if self._link else 0,
            bytes_down=self._link.bytes_down if self._link else 0,
        )
        if not self._config.quiet:
            show_summary(self._console, figures, time.monotonic() - began)
        load = self._device.clock.load_factor(time.monotonic())
        if load < FASTER_THAN_PROFILED:
            self._say(
                f"this device ran at {load:.2f} of the time in its profile, which was measured on a busy machine; "
                "`spinn profile` measures it again"
            )
        return figures

    async def _first_plan(self, pipeline: Pipeline, feed: Feed) -> Plan:
        """The fixed one, or the first that the policy decides on; it goes on deciding then."""
        asked = self._config.plan
        if isinstance(asked, Plan):
            self._plans.append(PlanUse(asked))
            return asked
        steering = Steering(
            self._bundle,
            asked,
            deadline_ms=self._config.deadline_ms,
            fps=self._feed_config.fps or self._source.fps,
            unpaced=self._feed_config.unpaced,
            change=lambda decision: self._change_plan(pipeline, decision),
            power=PowerModel.of_cores(self._config.threads),
        )
        decision = await asyncio.to_thread(steering.begin, self._device, self._link, feed)
        self.steering = steering
        pipeline.use_steering(steering)
        self._tell(decision)
        return decision.plan

    def _change_plan(self, pipeline: Pipeline, decision: Decision) -> None:
        self._tell(decision)
        pipeline.change_plan(decision.plan)

    def _tell(self, decision: Decision) -> None:
        self._plans.append(PlanUse(decision.plan, decision.reason))
        self._say(f"plan {decision.plan.id}: {decision.reason}")

    def _record(self, recorder: TraceRecorder | None) -> asyncio.Task[None] | None:
        if recorder is None or self._link is None:
            return None
        estimate = LinkEstimate(time.monotonic())
        self._link.observers.append(estimate)
        return asyncio.create_task(recorder.run(estimate), name="record trace")

    async def _end(self, recorder: TraceRecorder | None, recording: asyncio.Task[None] | None) -> None:
        if recorder is not None and recording is not None:
            recorder.stop()
            try:
                await recording
            except ConfigError as error:  # answers mattered more
                self.error = self.error or error

    def _open_device(self) -> str:
        """Open the engine and measure it where that was never done; gives its name. Blocks."""
        config = self._config
        engine = open_engine(self._bundle, config.runtime, threads=config.threads, say=self._say, warn=self._warn)
        profile = stored_profile(self._bundle, engine, threads=config.threads, say=self._say)
        host = THIS_MACHINE
        if config.slowdown != 1:
            self.slowed = Slowed(config.slowdown)
            profile, host = profile.slowed(config.slowdown), Host(pace=self.slowed)
        self._device = Device(self._bundle, engine, profile, every_exit=config.provisional, host=host)
        name = engine.name if config.threads == 1 else f"{engine.name} with {config.threads} threads"
        return name if config.slowdown == 1 else f"{name}, slowed down {config.slowdown:g} times"

    async def _open(self, link: Link) -> None:
        try:
            await link.open()
        except ServerUnreachable as error:
            if not self._config.allow_offline:
                raise ServerUnreachable(f"{error} (--allow-offline begins without it)") from error
            self._say(f"{error}; beginning alone, and trying again")

    def _warn_of_deadline(self) -> None:
        first = self._device.first_exit_ms(0) + SPARE_MS
        if self._config.deadline_ms < first:
            self._say(
                f"warning: the deadline of {self._config.deadline_ms:.0f} ms is shorter than the {first:.0f} ms "
                "this device needs for its first exit; frames may end in no_answer"
            )

    def _warn(self, text: str) -> None:
        self._console.print(f"warning: {text}", highlight=False, soft_wrap=True, markup=False)

    def _say(self, text: str) -> None:
        if not self._config.quiet:
            self._console.print(text, highlight=False, soft_wrap=True)

    def _state(self) -> dict[str, Any]:
        """What the live view shows besides results. Called from its thread, about every quarter of a second."""
        link, now = self._link, time.monotonic()
        sent = link.bytes_up if link else 0
        then, before = self._traffic
        if now - then >= 0.2:
            self._up_mbps = 0.5 * self._up_mbps + 0.5 * (sent - before) * 8e-6 / (now - then)
            self._traffic = (now, sent)
        plan = self._plans[-1].plan
        threshold = plan.confidence_threshold
        codec = "none" if plan.split == self._bundle.last else default_setting(self._bundle, plan.split, plan.codec)
        return {
            "link": "none" if link is None else "up" if link.up else "away",
            "rtt_ms": link.rtt_ms if link is not None and link.up else None,
            "up_mbps": self._up_mbps,
            "load": self._device.clock.load_factor(now),
            "plan": f"{plan.id}: split {self._bundle.cut_points[plan.split].name}, "
                    f"threshold {'none' if threshold is None else format(threshold, '.2f')}, codec {codec}",
        }  # fmt: skip
