"""The server on Ray Serve, on this machine alone: `spinn serve --ray` as a user starts it."""

from __future__ import annotations

import asyncio
import importlib.util
import json
import urllib.request
from collections.abc import Iterator
from urllib.error import HTTPError

import numpy as np
import pytest

from spinn_client.link.dial import dial
from spinn_stream.bundle import Bundle
from spinn_stream.codec import SUPPORTED, CodecSetting, PayloadSender, cnn_co, transform
from spinn_stream.wire import (
    Cancel,
    Hello,
    Infer,
    Load,
    Message,
    Reject,
    Result,
    ServerProfile,
    Welcome,
    decode,
    encode,
)

from ..processes import ServerProcess, server
from ..ray_head import free_port

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        importlib.util.find_spec("ray") is None, reason="Ray is not installed: pip install ./server[ray]"
    ),
]
SPLIT = 9
NO_PICTURE = np.empty((0, 0, 3), np.uint8)


@pytest.fixture(scope="module")
def cluster() -> Iterator[ServerProcess]:
    with server("--ray", "--replicas", "2", "--threads", "1", port=free_port()) as running:
        yield running


class Session:
    """A client of the server's port."""

    async def open(self, serving: ServerProcess, bundle: Bundle) -> Session:
        self._websocket = await dial(serving.address, None, 1_000_000)
        await self.say(Hello(bundle.hash, SUPPORTED, None, "test"))
        assert isinstance(await self.hear(), Welcome)
        return self

    async def say(self, message: Message) -> None:
        await self._websocket.send(encode(message))

    async def say_text(self) -> None:
        await self._websocket.send("text")

    async def hear(self) -> Message:
        async with asyncio.timeout(20):
            while isinstance(message := decode(await self._websocket.recv(decode=False)), Load | ServerProfile):
                pass
            return message

    async def close(self) -> None:
        await self._websocket.close()


def test_changes_of_one_session_are_answered_by_replicas_that_hold_nothing(
    cluster: ServerProcess, bundle: Bundle
) -> None:
    rng, sender = np.random.default_rng(1), PayloadSender(bundle)
    head = rng.random((1, *bundle.cut_points[SPLIT].shape), np.float32)

    async def main() -> None:
        session = await Session().open(cluster, bundle)
        for id in range(10):
            moved = (head + rng.normal(size=head.shape) * 0.01).astype(np.float32)
            payload = sender.encode(id, SPLIT, CodecSetting(transform.NAME, 7), moved, NO_PICTURE)
            assert transform.is_key(payload) == (id == 0)
            await session.say(Infer(id, SPLIT, transform.NAME, None, 10_000, payload))
            said = await session.hear()
            assert isinstance(said, Result) and said.id == id
            sender.acknowledge(id)
        await session.close()

    asyncio.run(main())


def test_strangers_are_refused_and_others_are_served(cluster: ServerProcess, bundle: Bundle) -> None:
    payload = cnn_co.encode(np.zeros(bundle.cut_points[SPLIT].shape, np.float32))

    async def main() -> None:
        honest, liar, talker = [await Session().open(cluster, bundle) for _ in range(3)]
        await liar.say(Infer(1, SPLIT, cnn_co.NAME, None, 10_000, b"x"))
        said = await liar.hear()
        assert isinstance(said, Reject) and (said.id, said.reason) == (1, "bad_payload")
        await talker.say_text()
        said = await talker.hear()
        assert isinstance(said, Reject) and "binary" in said.detail
        await honest.say(Infer(1, SPLIT, cnn_co.NAME, None, 10_000, payload))
        assert isinstance(await honest.hear(), Result)
        for session in (honest, liar):
            await session.close()

    asyncio.run(main())


def test_cancels_wedge_nothing(cluster: ServerProcess, bundle: Bundle) -> None:
    payload = cnn_co.encode(np.zeros(bundle.cut_points[SPLIT].shape, np.float32))

    async def main() -> None:
        session = await Session().open(cluster, bundle)
        for id in range(1000):
            await session.say(Infer(id, SPLIT, cnn_co.NAME, None, 10_000, payload))
            await session.say(Cancel(id))
            said = await session.hear()
            assert isinstance(said, Result | Reject) and said.id == id
        await session.say(Infer(1000, SPLIT, cnn_co.NAME, None, 10_000, payload))
        assert isinstance(await session.hear(), Result)
        await session.close()

    asyncio.run(main())


def test_every_replica_s_figures_can_be_found(cluster: ServerProcess) -> None:
    assert cluster.metric("spinn_requests_total") > 0
    (found,) = json.loads(cluster.get("/targets"))
    assert len(found["targets"]) == 2
    for target in found["targets"]:
        with urllib.request.urlopen(f"http://{target}/metrics", timeout=5) as response:
            assert "spinn_batch_size_count" in response.read().decode()


def test_what_would_take_the_way_through_ray_s_own_proxy_is_told_to_come_again(cluster: ServerProcess) -> None:
    """It stands in for HAProxy's way while that knows no ingress; see `Entrance`."""
    from ray.serve._private.constants import RAY_SERVE_FALLBACK_PROXY_HTTP_PORT as OTHER_WAY

    assert cluster.get("/readyz") == "ok\n"
    with pytest.raises(HTTPError) as refused:
        urllib.request.urlopen(f"http://127.0.0.1:{OTHER_WAY}/readyz", timeout=5)
    assert refused.value.code == 503
