"""An ingress and its replicas: as one server to the clients, and nobody is harmed by another one's fault."""

from __future__ import annotations

import asyncio
import random
import time

import numpy as np
import numpy.typing as npt
import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

from spinn_server.cluster import engine as remote
from spinn_server.cluster.messages import SUBPROTOCOL, LinkHello, Orders, Task, decode, encode
from spinn_server.cluster.replica import DenseReceiver
from spinn_server.work.scheduler import BatchLimits
from spinn_stream.bundle import Bundle
from spinn_stream.codec import CodecSetting, PayloadSender, cnn_co, transform
from spinn_stream.errors import CodecError, RemoteProtocolError
from spinn_stream.runtime import Engine, answers, open_engine
from spinn_stream.runtime.machine.host import Host
from spinn_stream.wire import Infer

from .clusters import SECRET, Cluster, cluster
from .engines import Failing, Held, Poisoned
from .owners import Told
from .worlds import SPLIT

Floats = npt.NDArray[np.float32]
NO_PICTURE = np.empty((0, 0, 3), np.uint8)


@pytest.fixture(scope="module")
def other_engine(bundle: Bundle) -> Engine:
    """Each replica has its own."""
    return open_engine(bundle, "onnxruntime")


@pytest.fixture
def heads(engine: Engine, inputs: Floats) -> Floats:
    return engine.run(0, SPLIT, inputs, exit=False)[0].copy()


@pytest.fixture
def payloads(heads: Floats) -> list[bytes]:
    return [cnn_co.encode(head) for head in heads]


@pytest.fixture
def labels(bundle: Bundle, engine: Engine, heads: Floats, payloads: list[bytes]) -> list[int]:
    """The final exit's answer for each payload."""
    found = []
    for payload in payloads:
        x = cnn_co.decode(payload, bundle.cut_points[SPLIT].shape)[None]
        _, output = engine.run(SPLIT, bundle.last, x)
        assert output is not None
        final = bundle.exits[-1]
        found.append(answers(final.name, output, final.temperature)[0].label)
    return found


def test_requests_are_answered_as_by_one_engine_and_by_both_replicas(
    bundle: Bundle, engine: Engine, other_engine: Engine, payloads: list[bytes], labels: list[int]
) -> None:
    async def main() -> None:
        async with cluster(bundle, [engine, other_engine], payloads) as c:
            for id in range(16):
                c.submit(id, image=id % 4, threshold=0.0 if id == 15 else None)
            await c.told.settled(16)
            assert not c.told.refusals
            for request, (exit_index, answer) in c.told.answers.items():
                assert bundle.exits[exit_index].name == answer.exit
                if request.id < 15:
                    assert (answer.exit, answer.label) == ("final", labels[request.id % 4])
                else:
                    assert answer.exit == next(e.name for e in bundle.exits if e.cut > SPLIT)
            assert all(replica.metrics.batch_size._sum.get() > 0 for replica in c.replicas)

    asyncio.run(main())


def test_changes_are_decoded_where_what_they_refer_to_is_held(
    bundle: Bundle, engine: Engine, other_engine: Engine, heads: Floats, payloads: list[bytes]
) -> None:
    """One session's requests go to both replicas, which hold nothing."""
    rng, sender = np.random.default_rng(1), PayloadSender(bundle)

    async def main() -> None:
        async with cluster(bundle, [engine, other_engine], payloads) as c:
            kinds = []
            for id in range(6):
                moved = (heads[:1] + rng.normal(size=heads[:1].shape) * 0.01).astype(np.float32)
                payload = sender.encode(id, SPLIT, CodecSetting(transform.NAME, 7), moved, NO_PICTURE)
                kinds.append(transform.is_key(payload))
                c.ask(Infer(id, SPLIT, transform.NAME, None, 10_000, payload))
                await c.told.settled(id + 1)
                sender.acknowledge(id)
            assert kinds == [True] + [False] * 5 and not c.told.refusals
            late = Told()
            c.engine.join(late)
            c.ask(Infer(9, SPLIT, transform.NAME, None, 10_000, payload), late)
            await late.settled(1)
            assert late.reasons == {9: "no_reference"}
            assert all(replica.metrics.held_bytes.labels(bundle.name)._value.get() == 0 for replica in c.replicas)

    asyncio.run(main())


@pytest.mark.parametrize("how", ["cancel", "forget"])
def test_a_cancel_and_a_departure_reach_the_replica(
    bundle: Bundle, engine: Engine, payloads: list[bytes], how: str
) -> None:
    held = Held(engine)

    async def main() -> None:
        async with cluster(bundle, [held], payloads, BatchLimits(max_batch_size=1, max_wait_ms=0)) as c:
            requests = [c.submit(id) for id in range(3)]
            (replica,) = c.replicas
            await c.until(lambda: replica.open == 3)
            await asyncio.to_thread(held.running.wait, 20)
            if how == "cancel":
                for request in requests:
                    c.engine.cancel(request)
                assert c.told.reasons == dict.fromkeys(range(3), "cancelled")
            else:
                c.engine.forget(c.told)
            await c.until(lambda: replica.open == 0)
            held.let_go.set()
            c.engine.join(c.told) if how == "forget" else None
            last = c.submit(7)
            await c.told.until(lambda: last in c.told.answers)
            assert len(c.told.answers) == 1

    asyncio.run(main())


def test_poison_costs_its_own_request_alone(
    bundle: Bundle, engine: Engine, payloads: list[bytes], labels: list[int]
) -> None:
    poisoned = Poisoned(engine, fails=True)

    async def main() -> None:
        async with cluster(bundle, [poisoned], payloads, BatchLimits(max_batch_size=4, max_wait_ms=500)) as c:
            poisoned.poison = cnn_co.decode(payloads[1], bundle.cut_points[SPLIT].shape)[None]
            for told in (Told() for _ in range(3)):
                c.engine.join(told)
            for id in range(4):
                c.submit(id, image=id)
            await c.told.settled(4)
            assert c.told.reasons == {1: "internal"}
            assert {r.id: a.label for r, (_, a) in c.told.answers.items()} == {n: labels[n] for n in (0, 2, 3)}

    asyncio.run(main())


def test_a_replica_that_dies_has_its_requests_refused_at_once_and_is_used_again_once_it_is_back(
    bundle: Bundle, engine: Engine, other_engine: Engine, payloads: list[bytes], labels: list[int],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr(remote, "FIND_S", 0.02)
    held = Held(engine)

    async def main() -> None:
        async with cluster(bundle, [held, other_engine], payloads, BatchLimits(max_batch_size=1, max_wait_ms=0)) as c:
            for id in range(8):
                c.submit(id, image=id % 4)
            await c.until(lambda: c.replicas[0].open > 0)
            await c.replicas[0].stop()
            await c.told.settled(8)
            assert set(c.told.reasons.values()) == {"internal"}
            assert 0 < len(c.told.refusals) < 8
            held.let_go.set()
            await c.until(lambda: len(c.engine.replicas) == 1)
            for id in range(8, 12):
                c.submit(id, image=id % 4)
            await c.told.settled(12)
            await c.replicas[0].start()
            await c.until(lambda: len(c.engine.replicas) == 2)
            before = len(c.told.refusals)
            for id in range(12, 20):
                c.submit(id, image=id % 4)
            await c.told.settled(20)
            assert len(c.told.refusals) == before
            assert all(a.label == labels[r.id % 4] for r, (_, a) in c.told.answers.items())

    asyncio.run(main())


def test_a_replica_that_is_no_longer_listed_gets_nothing_more_and_without_any_requests_are_refused(
    bundle: Bundle, engine: Engine, other_engine: Engine, payloads: list[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(remote, "FIND_S", 0.02)

    async def main() -> None:
        async with cluster(bundle, [engine, other_engine], payloads) as c:
            first, second = c.replicas
            c.listed.discard(first.address)
            await c.until(lambda: c.engine.replicas == [second.address])
            before = first.metrics.batch_size._sum.get()
            for id in range(4):
                c.submit(id)
            await c.told.settled(4)
            assert not c.told.refusals and first.metrics.batch_size._sum.get() == before
            c.listed.clear()
            await c.until(lambda: not c.engine.replicas)
            c.submit(4)
            await c.told.settled(5)
            assert c.told.reasons == {4: "overloaded"}

    asyncio.run(main())


def test_a_replica_that_ends_answers_what_it_has_and_gets_nothing_more(
    bundle: Bundle, engine: Engine, other_engine: Engine, payloads: list[bytes]
) -> None:
    async def main() -> None:
        async with cluster(bundle, [engine, other_engine], payloads) as c:
            first, second = c.replicas
            for id in range(8):
                c.submit(id)
            draining = asyncio.create_task(first.replica.drain(10.0))
            await c.until(lambda: c.engine.replicas == [second.address])
            for id in range(8, 12):
                c.submit(id)
            await c.told.settled(12)
            assert not c.told.refusals
            await draining
            assert first.replica.answer("/") is not None and first.open == 0

    asyncio.run(main())


def test_a_replica_whose_engine_fails_gets_nothing_more(
    bundle: Bundle, engine: Engine, other_engine: Engine, payloads: list[bytes]
) -> None:
    failing = Failing(engine, RuntimeError("the device is gone"))

    async def main() -> None:
        async with cluster(bundle, [failing, other_engine], payloads) as c:
            failing.failures = 1000
            for id in range(2):
                c.submit(id)
            await c.told.settled(2)
            await c.until(lambda: len(c.engine.replicas) == 1)
            for id in range(2, 6):
                c.submit(id)
            await c.told.settled(6)
            assert c.told.reasons.keys() <= {0, 1} and len(c.told.reasons) == 1
            assert c.replicas[0].replica.answer("/readyz").status == 503  # type: ignore[union-attr]

    asyncio.run(main())


def test_budgets_are_spent_on_each_machine_s_own_clock(bundle: Bundle, engine: Engine, payloads: list[bytes]) -> None:
    """The replica's clock is a day ahead."""
    held = Held(engine)
    host = Host(clock=lambda: time.monotonic() + 86_400)

    async def main() -> None:
        async with cluster(bundle, [held], payloads, host=host) as c:
            c.submit(0, budget_ms=150)
            c.submit(1, budget_ms=20_000)
            await c.told.settled(1)
            assert c.told.reasons == {0: "expired"}
            held.let_go.set()
            await c.told.settled(2)
            assert c.told.exits == {1: "final"}

    asyncio.run(main())


def test_a_storm_of_cancels_and_departures_leaves_nothing_behind(
    bundle: Bundle, engine: Engine, other_engine: Engine, payloads: list[bytes]
) -> None:
    rng = random.Random(3)

    async def visit(c: Cluster) -> None:
        told = Told()
        c.engine.join(told)
        requests = []
        for id in range(rng.randrange(30)):
            requests.append(c.submit(id, image=rng.randrange(4), budget_ms=rng.choice((0, 5, 50, 10_000)), told=told))
            if rng.random() < 0.6:
                c.engine.cancel(rng.choice(requests))
            if rng.random() < 0.2:
                await asyncio.sleep(0)
        c.engine.forget(told)

    async def main() -> None:
        async with cluster(bundle, [engine, other_engine], payloads, BatchLimits(max_wait_ms=1)) as c:
            for _ in range(6):
                await asyncio.gather(*(visit(c) for _ in range(25)))
            await c.until(lambda: sum(replica.open for replica in c.replicas) == 0)
            assert not c.engine._open and len(c.engine._receivers) == 1
            for link in c.engine._links:
                assert not (link.open or link._numbers or link._tasks) and len(link._clients) <= 1
            for replica in c.replicas:
                await c.until(lambda links=replica.replica._links: all(len(link._clients) <= 1 for link in links))  # type: ignore[misc]
            last = c.submit(0)
            await c.told.until(lambda: last in c.told.answers)

    asyncio.run(main())


def hello(bundle: Bundle, secret: str = SECRET) -> bytes:
    return encode(LinkHello(bundle.hash, secret))


def test_strangers_of_a_replica_are_closed_and_harm_nobody(
    bundle: Bundle, engine: Engine, payloads: list[bytes]
) -> None:
    task = Task(1, 5, SPLIT, cnn_co.NAME, (), 1000.0, False, payloads[0])
    lies: list[list[bytes]] = [
        [b"\xc1garbage"],
        [hello(bundle, "guess")],
        [encode(LinkHello("f00", SECRET))],
        [hello(bundle), b"\x00"],
        [hello(bundle), encode(Orders(tasks=(task,)))],  # of a client that has not joined
        [hello(bundle), encode(Orders(joined=((1, b"x"),)))],
    ]

    async def main() -> None:
        async with cluster(bundle, [engine], payloads) as c:
            for messages in lies:
                stranger = await connect(c.replicas[0].address, proxy=None, subprotocols=[SUBPROTOCOL])  # type: ignore[list-item]
                for message in messages:
                    await stranger.send(message)
                with pytest.raises(ConnectionClosed) as closed:
                    while True:
                        await stranger.recv()
                assert closed.value.rcvd is not None and closed.value.rcvd.code == 1008
            c.submit(0)
            await c.told.settled(1)
            assert c.told.exits == {0: "final"}

    asyncio.run(main())


@pytest.mark.parametrize("codec", ["dense", transform.NAME, "unheard-of"])
def test_a_replica_takes_payloads_alone_that_need_no_earlier_one(bundle: Bundle, codec: str) -> None:
    with pytest.raises(CodecError):
        DenseReceiver(bundle).decode(1, SPLIT, codec, b"abc")


@pytest.mark.parametrize(
    "data", [b"", b"\xc1", b"\x90", b"\x94\x90\x90\x90\x05", b"\x94\x91\x01\x90\x90\x90"], ids=repr
)
def test_damaged_messages_are_refused(data: bytes) -> None:
    with pytest.raises(RemoteProtocolError, match="expected Orders"):
        decode(Orders, data)
