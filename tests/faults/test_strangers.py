"""Garbage, truncated, oversized and lying messages: refused with a reason, nobody else is harmed, memory stays flat."""

from __future__ import annotations

import asyncio
import itertools
import os
import random
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed
from websockets.typing import Subprotocol

from spinn_stream.bundle import Bundle
from spinn_stream.codec import SUPPORTED, cnn_co, max_payload_bytes, transform
from spinn_stream.wire import (
    SUBPROTOCOL,
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

from ..processes import ClientProcess, RunOutput, ServerProcess, asgi_server, server

SPLIT = 9
CODECS = (cnn_co.NAME, transform.NAME)


@pytest.fixture(scope="module", params=["websocket", "asgi"])
def serving(request: pytest.FixtureRequest, serving: ServerProcess) -> Iterator[ServerProcess]:
    """A server whose sessions come over its own carrier, and one behind an ASGI server."""
    if request.param == "websocket":
        yield serving
    else:
        with asgi_server() as running:
            yield running


async def open_raw(serving: ServerProcess) -> ClientConnection:
    return await connect(serving.address, subprotocols=[Subprotocol(SUBPROTOCOL)], compression=None, proxy=None,
                         max_size=None)  # fmt: skip


async def open_session(serving: ServerProcess, bundle: Bundle) -> ClientConnection:
    websocket = await open_raw(serving)
    await websocket.send(encode(Hello(bundle.hash, SUPPORTED, None, "test")))
    assert isinstance(decode(await websocket.recv(decode=False)), Welcome)
    assert isinstance(decode(await websocket.recv(decode=False)), ServerProfile)
    return websocket


async def answer(websocket: ClientConnection) -> Message:
    """The next message that is not about the server's load."""
    async with asyncio.timeout(10):
        while isinstance(message := decode(await websocket.recv(decode=False)), Load):
            pass
        return message


def good(bundle: Bundle, request: int = 1, budget_ms: float = 5000.0) -> Infer:
    payload = cnn_co.encode(np.zeros(bundle.cut_points[SPLIT].shape, np.float32))
    return Infer(request, SPLIT, cnn_co.NAME, None, budget_ms, payload)


GARBAGE = [b"", b"\x00", bytes(1000), os.urandom(1000), b"\xff\xff" + bytes(70_000), encode(Cancel(1))[:-1]]


@pytest.mark.parametrize("data", GARBAGE, ids=lambda d: f"{len(d)} bytes")
@pytest.mark.parametrize("after_hello", [False, True])
def test_garbage_ends_the_session_with_a_reason(
    serving: ServerProcess, bundle: Bundle, data: bytes, after_hello: bool
) -> None:
    async def main() -> None:
        websocket = await (open_session(serving, bundle) if after_hello else open_raw(serving))
        await websocket.send(data)
        said = await answer(websocket)
        assert isinstance(said, Reject) and said.id is None and said.reason == "bad_message" and said.detail
        with pytest.raises(ConnectionClosed) as closed:
            await websocket.recv()
        assert closed.value.rcvd is not None and closed.value.rcvd.code == 1008

    asyncio.run(main())
    assert serving.get("/healthz") == "ok\n"


def test_text_messages_are_refused(serving: ServerProcess, bundle: Bundle) -> None:
    async def main() -> None:
        websocket = await open_session(serving, bundle)
        await websocket.send("hello")
        said = await answer(websocket)
        assert isinstance(said, Reject) and "binary" in said.detail

    asyncio.run(main())


@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize("payload", [b"x", bytes(300), os.urandom(3000)], ids=lambda p: f"{len(p)} bytes")
def test_a_lying_payload_is_refused_and_the_session_goes_on(
    serving: ServerProcess, bundle: Bundle, payload: bytes, codec: str
) -> None:
    async def main() -> None:
        websocket = await open_session(serving, bundle)
        await websocket.send(encode(Infer(1, SPLIT, codec, None, 5000, payload)))
        said = await answer(websocket)
        assert isinstance(said, Reject) and said.id == 1 and said.reason == "bad_payload" and said.detail
        await websocket.send(encode(good(bundle, 2)))
        assert isinstance(await answer(websocket), Result)
        await websocket.close()

    asyncio.run(main())


def test_a_bad_payload_does_not_spoil_its_batch(bundle: Bundle) -> None:
    with server("--max-wait-ms", "200") as serving:

        async def main() -> None:
            one, other = await open_session(serving, bundle), await open_session(serving, bundle)
            await one.send(encode(Infer(1, SPLIT, cnn_co.NAME, None, 5000, os.urandom(2000))))
            await other.send(encode(good(bundle, 7)))
            bad, well = await asyncio.gather(answer(one), answer(other))
            assert isinstance(bad, Reject) and bad.reason == "bad_payload"
            assert isinstance(well, Result) and well.id == 7

        asyncio.run(main())


def test_an_oversized_message_is_refused_before_it_is_held(serving: ServerProcess, bundle: Bundle) -> None:
    """64 MiB announced and sent in a loop: the server closes with 1009 and its memory does not grow by as much."""
    before = serving.memory_bytes()

    async def main() -> None:
        for _ in range(5):
            websocket = await open_session(serving, bundle)
            with pytest.raises(ConnectionClosed) as closed:
                await websocket.send(bytes(64 * 1024 * 1024))
                await websocket.recv()
            assert closed.value.rcvd is None or closed.value.rcvd.code == 1009

    asyncio.run(main())
    assert serving.get("/healthz") == "ok\n"
    print(f"memory grew by {(serving.memory_bytes() - before) / 1e6:.1f} MB for 5 messages of 67 MB")
    assert serving.memory_bytes() - before < 32 * 1024 * 1024


def test_the_largest_honest_message_is_taken(serving: ServerProcess, bundle: Bundle) -> None:
    largest = max(range(1, bundle.last), key=lambda s: max_payload_bytes(bundle, s))
    noise = np.random.default_rng(1).random(bundle.cut_points[largest].shape, np.float32)

    async def main() -> None:
        websocket = await open_session(serving, bundle)
        await websocket.send(encode(Infer(1, largest, cnn_co.NAME, None, 10_000, cnn_co.encode(noise))))
        assert isinstance(await answer(websocket), Result)
        await websocket.close()

    asyncio.run(main())


async def use(serving: ServerProcess, bundle: Bundle) -> None:
    """Ordinary requests, for which the server builds a graph that takes its memory once."""
    websocket = await open_session(serving, bundle)
    async with asyncio.timeout(60):  # it is built beside the requests, when there is a core for that
        for request in itertools.count():
            await websocket.send(encode(good(bundle, request)))
            assert isinstance(await answer(websocket), Result)
            if request >= 200 and request % 20 == 0 and serving.metric("spinn_fused_graphs") > 0:
                break
    await websocket.close()


def test_a_flood_is_refused_and_bounded(serving: ServerProcess, bundle: Bundle) -> None:
    """More requests than agreed, answers never read: the flooder is refused or closed; others are served."""
    asyncio.run(use(serving, bundle))
    before = serving.memory_bytes()

    async def main() -> None:
        flooder, honest = await open_session(serving, bundle), await open_session(serving, bundle)
        try:
            async with asyncio.timeout(5):
                for request in range(3000):
                    await flooder.send(encode(good(bundle, request)))
        except (ConnectionClosed, TimeoutError):
            pass
        await honest.send(encode(good(bundle, 1)))
        assert isinstance(await answer(honest), Result)
        flooder.transport.abort()
        await honest.close()

    asyncio.run(main())
    assert serving.memory_bytes() - before < 64 * 1024 * 1024


def test_a_stale_request_is_refused_as_expired(serving: ServerProcess, bundle: Bundle) -> None:
    async def main() -> None:
        websocket = await open_session(serving, bundle)
        await websocket.send(encode(good(bundle, 1, budget_ms=0.0)))
        said = await answer(websocket)
        assert isinstance(said, Reject) and said.reason == "expired"
        await websocket.close()

    asyncio.run(main())


@pytest.mark.slow
def test_who_says_nothing_is_closed(serving: ServerProcess) -> None:
    async def main() -> None:
        websocket = await open_raw(serving)
        async with asyncio.timeout(9):
            with pytest.raises(ConnectionClosed):
                await websocket.recv()

    asyncio.run(main())


def test_raw_bytes_on_the_port_harm_nobody(serving: ServerProcess) -> None:
    rng = random.Random(1)
    for _ in range(50):
        with socket.create_connection(("127.0.0.1", serving.port), timeout=5) as stranger:
            stranger.sendall(rng.randbytes(rng.randint(1, 2000)))
    assert serving.get("/healthz") == "ok\n"


@pytest.mark.alone
@pytest.mark.parametrize("serving", ["websocket"], indirect=True)
def test_an_honest_client_is_served_beside_strangers(serving: ServerProcess, bundle: Bundle, tmp_path: Path) -> None:
    async def pester(seconds: float) -> None:
        rng = random.Random(2)
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            websocket = await open_session(serving, bundle)
            await websocket.send(encode(Infer(1, SPLIT, rng.choice(CODECS), None, 5000, rng.randbytes(500))))
            await websocket.send(rng.randbytes(rng.randint(0, 3000)))
            await asyncio.sleep(0.02)
            websocket.transport.abort()

    def beside_them(name: str, frames: int, seconds: float) -> RunOutput:
        client = ClientProcess(tmp_path / name, "--source", "demo", "--frames", str(frames), "--split", "9",
                               "--threshold", "none", "--deadline-ms", "500", "--server", serving.address)  # fmt: skip
        asyncio.run(pester(seconds))
        return client.finish()

    beside_them("first", 30, 1.0)  # what a server needs anyway, it has now
    before = serving.memory_bytes()
    out = beside_them("second", 75, 2.0)
    out.check_contract(500)
    assert out.summary["server"] >= 0.95 * out.summary["taken"]
    assert serving.memory_bytes() - before < 32 * 1024 * 1024
    assert serving.metric("spinn_sessions") == 0
    print(f"memory grew by {(serving.memory_bytes() - before) / 1e6:.1f} MB beside strangers")
