"""What the server says of itself, its profile and its load, arrives at a real link, and goes when the link does."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable

import numpy as np
import pytest

from spinn_client.link.config import LinkConfig
from spinn_client.link.link import Link
from spinn_server.admin.metrics import Metrics
from spinn_server.server import Server, ServerConfig
from spinn_server.work.scheduler import BatchLimits
from spinn_server.work.worker import TailEngine
from spinn_stream.bundle import Bundle
from spinn_stream.codec import CodecSetting, cnn_co
from spinn_stream.plan import Plan
from spinn_stream.profile import Profile, Timing
from spinn_stream.runtime import Engine
from spinn_stream.wire import Reject, Result

SPLIT = 9
PLAN = Plan(0, SPLIT, None, CodecSetting(cnn_co.NAME, 8))
WAIT_MS = 60.0


class Events:
    """What a link said."""

    def __init__(self) -> None:
        self.answers: list[Result] = []
        self.rejects: list[Reject] = []
        self.look: Callable[[], object] = lambda: None  # called with each answer

    def on_answer(self, message: Result, server: str) -> None:
        self.answers.append(message)
        self.look()

    def on_reject(self, message: Reject) -> None:
        self.rejects.append(message)

    def on_up(self, server: str) -> None: ...

    def on_room(self) -> None: ...

    def on_refused(self, server: str, why: str) -> None: ...

    def on_down(self, server: str, lost: list[int], why: str) -> None: ...

    def on_switch(self, before: str, server: str) -> None: ...


async def until(condition: Callable[[], bool]) -> None:
    for _ in range(6000):
        if condition():
            return
        await asyncio.sleep(0.01)
    pytest.fail("not within a minute")


def figures(link: Link) -> list[object]:
    return [link.server_profile, link.server_queue_ms, link.server_load]


def test_profile_and_queueing_delay_arrive_and_go_with_the_server(
    bundle: Bundle, engine: Engine, profile: Profile
) -> None:
    """Two clients, one of them silent: requests of the other wait for company as long as the server allows."""
    payload = cnn_co.encode(np.zeros(bundle.cut_points[SPLIT].shape, np.float32))

    async def main() -> None:
        tail = TailEngine(bundle, engine, BatchLimits(max_wait_ms=WAIT_MS), Metrics(), profile)
        events = Events()
        async with Server([tail], Metrics(), ServerConfig(port=0)).listen() as address:
            links = [Link([LinkConfig(address)], bundle, random.Random(0)) for _ in range(2)]
            seen: list[tuple[float | None, float | None]] = []  # with each answer; a moment later the server is idle
            events.look = lambda: seen.append((links[0].server_queue_ms, links[0].server_load))
            running = []
            for link, told in zip(links, (events, Events()), strict=True):
                await link.open()
                assert figures(link) == [None, None, None]
                running.append(asyncio.create_task(link.run(told)))
            await until(lambda: all(link.server_profile is not None for link in links))
            read = links[0].server_profile
            assert read is not None
            assert (read.runtime, read.exit_cuts, read.preprocess) == (profile.runtime, profile.exit_cuts, Timing(0, 0))
            way = bundle.pieces(SPLIT, bundle.last)
            assert read.expected_ms(way, profile.exit_cuts) == pytest.approx(
                profile.expected_ms(way, profile.exit_cuts), rel=1e-6
            )
            assert links[0].server_queue_ms is None  # nothing was asked yet

            for request in range(20):  # a wait is told for a second: a busy machine may answer later than that
                events.answers.clear()
                assert links[0].send(request, PLAN, payload, time.monotonic() + 30, None)
                await until(lambda: bool(events.answers))
                queue_ms, load = seen[-1]
                assert queue_ms is not None and load is not None and load > 0
                if queue_ms >= WAIT_MS - 1:
                    break
            assert seen[-1][0] is not None and seen[-1][0] >= WAIT_MS - 1 and events.rejects == []
            assert links[1].server_queue_ms is None  # word of the load goes with answers

        await until(lambda: not any(link.up for link in links))
        assert [figures(link) for link in links] == [[None, None, None]] * 2
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)

    asyncio.run(main())


def test_a_server_without_a_profile_is_served_as_well(bundle: Bundle, engine: Engine) -> None:
    payload = cnn_co.encode(np.zeros(bundle.cut_points[SPLIT].shape, np.float32))

    async def main() -> None:
        events = Events()
        tail = TailEngine(bundle, engine, BatchLimits(), Metrics())
        async with Server([tail], Metrics(), ServerConfig(port=0)).listen() as address:
            link = Link([LinkConfig(address)], bundle, random.Random(0))
            await link.open()
            running = asyncio.create_task(link.run(events))
            assert link.send(0, PLAN, payload, time.monotonic() + 30, None)
            await until(lambda: bool(events.answers))
            assert link.server_profile is None
            assert link.server_queue_ms is not None and link.server_load == 1.0
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)

    asyncio.run(main())


def test_a_reject_brings_word_of_the_queue(bundle: Bundle, engine: Engine, profile: Profile) -> None:
    payload = cnn_co.encode(np.zeros(bundle.cut_points[SPLIT].shape, np.float32))

    async def main() -> None:
        events = Events()
        limits = BatchLimits(max_queue=1, max_wait_ms=10_000)
        async with Server(
            [TailEngine(bundle, engine, limits, Metrics(), profile)], Metrics(), ServerConfig(port=0)
        ).listen() as address:
            links = [Link([LinkConfig(address)], bundle, random.Random(0)) for _ in range(2)]
            seen: list[tuple[float | None, float | None]] = []  # with each answer; a moment later the server is idle
            events.look = lambda: seen.append((links[0].server_queue_ms, links[0].server_load))
            running = []
            for link in links:  # as two clients could send, the first request waits for company
                await link.open()
                running.append(asyncio.create_task(link.run(events)))
            for request, link in enumerate(links):
                assert link.send(request, PLAN, payload, time.monotonic() + 30, None)
            await until(lambda: bool(events.rejects))
            assert events.rejects[0].reason == "overloaded" and events.rejects[0].queue_ms > 0
            refused = links[events.rejects[0].id or 0]
            assert refused.server_queue_ms == events.rejects[0].queue_ms
            for task in running:
                task.cancel()
            await asyncio.gather(*running, return_exceptions=True)

    asyncio.run(main())
