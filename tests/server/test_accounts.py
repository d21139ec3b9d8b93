"""Every request that comes has one outcome, which is counted and, if the client is there, told."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from spinn_client.link.dial import dial
from spinn_server import connection, server
from spinn_server.admin.metrics import Metrics
from spinn_server.work.scheduler import BatchLimits
from spinn_server.work.worker import TailEngine
from spinn_stream.bundle import Bundle
from spinn_stream.codec import SUPPORTED, cnn_co
from spinn_stream.profile import Profile
from spinn_stream.runtime import Engine
from spinn_stream.wire import Cancel, Hello, Infer, Reject, Result, SessionLimits, encode

from .carriers import Client
from .engines import Held
from .worlds import BOTH_CARRIERS, SPLIT, World, Worlds


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not condition():  # noqa: ASYNC110  # nothing tells of it
            await asyncio.sleep(0.001)


async def outcomes(client: Client, count: int) -> dict[int | None, str]:
    """By the ids of requests: "answered", or the reason of the reject."""
    told: dict[int | None, str] = {}
    while len(told) < count:
        said = await client.hear()
        assert isinstance(said, Result | Reject) and said.id not in told
        told[said.id] = "answered" if isinstance(said, Result) else said.reason
    return told


@BOTH_CARRIERS
def test_refusals_before_the_queue_are_counted(world: Worlds, bundle: Bundle) -> None:
    async def main() -> None:
        async with world(session=SessionLimits(max_in_flight=2)) as w:
            client = await w.client()
            client.say(w.infer(1, split=bundle.last))
            client.say(Infer(2, SPLIT, "unheard-of", None, 1000, b"x"))
            client.say(Infer(3, SPLIT, cnn_co.NAME, None, 1000, b"x"))
            for id in (4, 5, 6):
                client.say(w.infer(id))
            told = await outcomes(client, 6)
            assert told[1] == told[2] == "bad_request" and told[3] == "bad_payload"
            assert sorted(told[id] for id in (4, 5, 6)).count("overloaded") >= 1
            assert w.total("spinn_requests") == 6 and w.balances() and w.total("spinn_open_requests") == 0
            client.leave()

    asyncio.run(main())


@BOTH_CARRIERS
def test_who_leaves_abandons_what_is_open_and_nothing_is_left_behind(world: Worlds, engine: Engine) -> None:
    held = Held(engine)

    async def main() -> None:
        async with world(held) as w:
            client = await w.client()
            for id in range(5):
                client.say(w.infer(id))
            await asyncio.to_thread(held.running.wait, 20)
            client.say(Cancel(3))
            said = await client.hear()
            assert isinstance(said, Reject) and (said.id, said.reason) == (3, "cancelled")
            client.leave()
            await until(lambda: w.total("spinn_abandoned") == 4)
            assert w.total("spinn_cancelled") == 1 and w.balances() and w.total("spinn_open_requests") == 0
            held.let_go.set()

    asyncio.run(main())


@BOTH_CARRIERS
def test_a_storm_of_cancels_and_departures_leaves_nothing_behind(world: Worlds) -> None:
    """Thousands, at random moments."""
    rng = random.Random(7)

    async def visit(w: World) -> None:
        client = await w.client()
        for id in range(rng.randrange(40)):
            client.say(w.infer(id, image=rng.randrange(4), budget_ms=rng.choice((0, 5, 50, 10_000))))
            if rng.random() < 0.5:
                client.say(Cancel(rng.randrange(id + 1)))
            if rng.random() < 0.1:
                await asyncio.sleep(0)
        client.leave()

    async def main() -> None:
        before = len(asyncio.all_tasks())
        async with world(limits=BatchLimits(max_batch_size=8, max_wait_ms=1), max_sessions=50) as w:
            for _ in range(8):
                await asyncio.gather(*(visit(w) for _ in range(25)))
            await until(lambda: w.total("spinn_sessions") == w.total("spinn_open_requests") == 0)
            assert w.total("spinn_requests") > 3000 and w.balances()
            await until(lambda: all(task.done() for task in w.tasks))  # the carrier's end comes after the session's
            assert w.total("spinn_reference_bytes") == 0
        await until(lambda: len(asyncio.all_tasks()) == before)  # a step that was running ends in its thread

    asyncio.run(main())


def test_a_storm_of_sockets_leaves_no_task_and_no_file(world: Worlds, bundle: Bundle, engine: Engine) -> None:
    """Clients send, cancel and are gone: some say good-bye, some do not wait for the welcome."""
    rng = random.Random(7)

    async def main() -> None:
        limits, metrics = BatchLimits(max_batch_size=8, max_wait_ms=1), Metrics()
        async with world() as w:
            payload = w.payloads[0]
        at_work = server.Server(
            [TailEngine(bundle, engine, limits, metrics)], metrics, server.ServerConfig(port=0, batch=limits)
        )

        async def visit(address: str) -> None:
            websocket = await dial(address, None, 1_000_000)
            await websocket.send(encode(Hello(bundle.hash, SUPPORTED, None, "test")))
            if rng.random() < 0.8:
                await websocket.recv()
                for id in range(rng.randrange(10)):
                    await websocket.send(encode(Infer(id, SPLIT, cnn_co.NAME, None, rng.choice((5, 10_000)), payload)))
                    if rng.random() < 0.5:
                        await websocket.send(encode(Cancel(rng.randrange(id + 1))))
            if rng.random() < 0.5:
                await websocket.close()
            websocket.transport.abort()

        def files() -> int:
            return len(list(Path("/proc/self/fd").iterdir()))

        def count(name: str) -> float:
            return sum(s.value for m in metrics.registry.collect() for s in m.samples if s.name == name)

        async with at_work.listen() as address:
            await asyncio.sleep(0)  # all tasks of the server have begun
            before = files(), len(asyncio.all_tasks())
            for _ in range(6):
                await asyncio.gather(*(visit(address) for _ in range(25)))
            await until(lambda: count("spinn_connections") == count("spinn_open_requests") == 0)
            await until(lambda: (files(), len(asyncio.all_tasks())) == before)
            outcomes = ("answers", "rejects", "cancelled", "abandoned")
            assert count("spinn_requests_total") == sum(count(f"spinn_{name}_total") for name in outcomes) > 200

    asyncio.run(main())


def test_a_refusal_for_overload_says_how_long_the_queue_is(world: Worlds, engine: Engine, profile: Profile) -> None:
    held = Held(engine)

    async def main() -> None:
        limits = BatchLimits(max_batch_size=4, max_wait_ms=0)
        async with world(held, limits=limits, profile=profile, session=SessionLimits(max_in_flight=200)) as w:
            client = await w.client()
            client.say(w.infer(0))
            await asyncio.to_thread(held.running.wait, 20)
            for id in range(1, 150):
                client.say(w.infer(id, budget_ms=200))
            said = await client.hear()
            assert isinstance(said, Reject) and said.reason == "overloaded" and "its budget is" in said.detail
            assert 20 < said.queue_ms < 500
            held.let_go.set()
            client.leave()

    asyncio.run(main())


def test_under_overload_a_client_that_allows_it_gets_an_earlier_exit_s_answer_and_is_told_so(
    world: Worlds, bundle: Bundle, engine: Engine, profile: Profile
) -> None:
    """By its profile the server would need a minute for all of the way, and half a minute to the next exit."""
    whole = profile.expected_ms(bundle.pieces(SPLIT, bundle.last), [e.cut for e in bundle.exits])
    count, minute = 20, 60_000.0
    held = Held(engine)

    async def main() -> None:
        limits = BatchLimits(max_batch_size=1, max_wait_ms=0)
        async with world(held, limits=limits, profile=profile.slowed(minute / (count * whole))) as w:
            client = await w.client()
            for id in range(count):
                client.say(replace(w.infer(id, budget_ms=0.9 * minute), may_shorten=True))
            await until(lambda: w.total("spinn_requests") == count)
            held.let_go.set()
            said = [await client.hear() for _ in range(count)]
            shortened = [s for s in said if isinstance(s, Result) and s.shortened]
            assert shortened and all(s.exit < len(bundle.exits) - 1 for s in shortened)
            assert w.total("spinn_shortened") == len(shortened) and w.balances()
            client.leave()

    try:
        asyncio.run(main())
    finally:
        held.let_go.set()


@BOTH_CARRIERS
def test_what_is_open_when_it_ends_is_answered_or_refused(
    world: Worlds, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """32 requests in flight, an engine that takes too long: none is without an acknowledgement."""
    monkeypatch.setattr(server, "DRAIN_S", 0.05)
    held = Held(engine)
    told: dict[int | None, str] = {}

    async def listen(client: Client) -> None:
        told.update(await outcomes(client, 32))
        assert await client.hear() is None

    async def main() -> None:
        async with world(held) as w:
            client = await w.client()
            for id in range(32):
                client.say(w.infer(id))
            await asyncio.to_thread(held.running.wait, 20)
            await until(lambda: w.total("spinn_requests") == 32)
            listening = asyncio.create_task(listen(client))
        await listening
        assert set(told) == set(range(32)) and set(told.values()) == {"overloaded"}
        assert client.closed == (1001, "the server is ending") and w.balances()

    try:
        asyncio.run(main())
    finally:
        held.let_go.set()


def test_a_greedy_client_leaves_others_their_share(world: Worlds, profile: Profile) -> None:
    """One has 32 requests in flight all the time, with budgets of an hour; another one asks now and then."""

    async def hog(client: Client, w: World) -> None:
        for id in range(32):
            client.say(w.infer(id, budget_ms=3_600_000))
        id = 32
        while await client.hear() is not None:
            client.say(w.infer(id, budget_ms=3_600_000))
            id += 1

    async def main() -> None:
        limits = BatchLimits(max_batch_size=4, max_wait_ms=1)
        async with world(limits=limits, profile=profile) as w:
            greedy, modest = await w.client(), await w.client()
            hogging = asyncio.create_task(hog(greedy, w))
            await until(lambda: w.total("spinn_answers") > 8)
            for id in range(15):
                modest.say(w.infer(id, budget_ms=1000))
                said = await modest.hear()
                assert isinstance(said, Result), said
            modest.leave()
            greedy.leave()
            hogging.cancel()

    asyncio.run(main())


@BOTH_CARRIERS
def test_the_silent_hold_no_places_and_give_way_to_each_other(world: Worlds) -> None:
    async def main() -> None:
        async with world(max_sessions=2) as w:
            silent = [w.stranger() for _ in range(2)]
            client = await w.client()
            client.say(w.infer(1))
            assert isinstance(await client.hear(), Result)
            assert await silent[0].hear() is None, "the oldest one gave way"
            for one in (silent[1], client):
                one.leave()

    asyncio.run(main())


def test_an_idle_session_gives_its_place_to_a_new_one_and_a_busy_one_does_not(
    world: Worlds, bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def main() -> None:
        async with world(max_sessions=1) as w:
            busy = await w.client()
            assert w.http("/") == (503, "1 sessions are open already\n")
            late = w.stranger()  # past that answer, before the place was taken
            late.say(Hello(bundle.hash, SUPPORTED, None, "test"))
            said = await late.hear()
            assert isinstance(said, Reject) and (said.id, said.reason) == (None, "overloaded")
            assert w.total("spinn_refused_connections") == 1 and w.total("spinn_refused_sessions") == 1
            monkeypatch.setattr(server, "IDLE_S", 0.0)
            assert w.server.answer("/") is None
            other = await w.client()
            assert await busy.hear() is None and busy.closed == (1001, "idle, and others wait for its place")
            other.leave()

    asyncio.run(main())


@BOTH_CARRIERS
def test_who_says_no_hello_is_closed_and_counted(world: Worlds, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "HELLO_TIMEOUT_S", 0.01)

    async def main() -> None:
        async with world() as w:
            stranger = w.stranger()
            assert await stranger.hear() is None
            assert stranger.closed is not None and stranger.closed[0] == 1008
            assert w.total("spinn_refused_sessions") == 1

    asyncio.run(main())


def test_load_is_told_without_a_request_if_it_changed(world: Worlds, engine: Engine) -> None:
    """A client that has heard of a load, and asks for nothing more, hears that it is over."""
    held = Held(engine)

    async def main() -> None:
        async with world(held) as w:
            client = await w.client()
            client.say(w.infer(0))
            await asyncio.to_thread(held.running.wait, 20)
            client.say(w.infer(1))
            await asyncio.sleep(0.02)
            held.let_go.set()
            loads = [await client.hear_load() for _ in range(2)]
            assert loads[0].queue_ms != loads[-1].queue_ms or loads[-1].queue_ms > 5
            while loads[-1].queue_ms > 0:
                loads.append(await client.hear_load())
            client.leave()

    asyncio.run(main())
