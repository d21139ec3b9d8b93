"""Strangers do their worst to a server for some seconds, while an honest client uses it: the client notices nothing."""

from __future__ import annotations

import asyncio
import contextlib
import math
import random
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.typing import Subprotocol

from spinn_stream.bundle import Bundle
from spinn_stream.codec import SUPPORTED, cnn_co, max_payload_bytes, transform
from spinn_stream.codec.basis import basis_of
from spinn_stream.wire import SUBPROTOCOL, Cancel, Hello, Infer, Reject, Result, encode

from ..bundles import SMALL
from ..processes import SPINN, ServerProcess, wait_ready
from .real import Scene, elsewhere, memory_mb, recover, run_for, wait_for_server
from .test_floods import HANDSHAKE, MASK, PING, raw_session
from .test_strangers import CODECS, SPLIT, answer, good, open_raw, open_session

pytestmark = [pytest.mark.alone, pytest.mark.slow]

SECONDS = 5.0
SLOW_HANDSHAKES = 500
CAP_MB = 96

Attack = Callable[[ServerProcess, Bundle], Awaitable[None]]


def ends() -> Callable[[], bool]:
    """Whether the time of an attack is not over yet."""
    end = time.monotonic() + SECONDS
    return lambda: time.monotonic() < end


async def raw(serving: ServerProcess, bundle: Bundle | None) -> socket.socket:
    sock = await asyncio.to_thread(raw_session, serving.port, bundle)
    sock.setblocking(False)
    return sock


async def pour(serving: ServerProcess, bundle: Bundle, data: bytes) -> None:
    """The same bytes, as fast as they are taken, in one session after the other; nothing is read."""
    going = ends()
    while going():
        sock = await raw(serving, bundle)
        with sock, contextlib.suppress(OSError, TimeoutError):
            while going():
                async with asyncio.timeout(0.5):
                    await asyncio.get_running_loop().sock_sendall(sock, data)


def masked(first: int, data: bytes) -> bytes:
    """A frame of RFC 6455 with a mask that leaves the bytes as they are."""
    size = len(data)
    if size < 126:
        return bytes([first, 0x80 | size]) + MASK + data
    return bytes([first, 0x80 | 127]) + size.to_bytes(8, "big") + MASK + data


async def pings(serving: ServerProcess, bundle: Bundle) -> None:
    await pour(serving, bundle, PING * 200)


async def fragments(serving: ServerProcess, bundle: Bundle) -> None:
    await pour(serving, bundle, masked(0x02, b"x") + masked(0x00, b"") * 5000)


async def small_messages(serving: ServerProcess, bundle: Bundle) -> None:
    await pour(serving, bundle, masked(0x82, encode(Cancel(7))) * 500)


async def slow_reader(serving: ServerProcess, bundle: Bundle) -> None:
    """Requests whose answers are never read."""
    await pour(serving, bundle, masked(0x82, encode(good(bundle, 1, budget_ms=0.0))) * 4)


async def slow_handshakes(serving: ServerProcess, bundle: Bundle) -> None:
    """500 sockets, a byte a second each."""

    async def dribble() -> None:
        with contextlib.suppress(OSError):
            _, writer = await asyncio.open_connection("127.0.0.1", serving.port)
            for byte in HANDSHAKE[: int(SECONDS)]:
                writer.write(bytes([byte]))
                await writer.drain()
                await asyncio.sleep(1.0)
            writer.transport.abort()

    await asyncio.gather(*(dribble() for _ in range(SLOW_HANDSHAKES)))


async def dribbled_messages(serving: ServerProcess, bundle: Bundle) -> None:
    """A hundred sessions that send an honest request, a few bytes at a time."""

    async def dribble() -> None:
        sock = await raw(serving, bundle)
        data, going = masked(0x82, encode(good(bundle))), ends()
        with sock, contextlib.suppress(OSError):
            for at in range(0, len(data), 7):
                if not going():
                    return
                await asyncio.get_running_loop().sock_sendall(sock, data[at : at + 7])
                await asyncio.sleep(0.05)

    await asyncio.gather(*(dribble() for _ in range(100)))


async def noise(serving: ServerProcess, bundle: Bundle) -> None:
    """Payloads and messages of random bytes."""
    rng, going = random.Random(2), ends()
    while going():
        websocket = await open_session(serving, bundle)
        with contextlib.suppress(ConnectionClosed):
            for request, codec in enumerate(CODECS * 4):
                await websocket.send(encode(Infer(request, SPLIT, codec, None, 5000, rng.randbytes(500))))
            await websocket.send(rng.randbytes(rng.randint(0, 3000)))
        await asyncio.sleep(0.02)
        websocket.transport.abort()


async def too_long(serving: ServerProcess, bundle: Bundle) -> None:
    """64 MiB in one message."""
    going, data = ends(), bytes(64 * 1024 * 1024)
    while going():
        websocket = await open_session(serving, bundle)
        with pytest.raises(ConnectionClosed):
            await websocket.send(data)
            await websocket.recv()


async def lies(serving: ServerProcess, bundle: Bundle) -> None:
    """Lengths one above the limit, codecs that do not fit, activations that are not finite: each is refused."""
    largest = max_payload_bytes(bundle, SPLIT)
    honest = good(bundle, budget_ms=5000.0)
    head = struct.Struct("<Bff")  # of cnn-co: bits, lowest value, step
    bits, _, step = head.unpack_from(honest.payload)
    lying = [
        replace(honest, payload=bytes(largest + 1)),
        replace(honest, payload=b""),
        replace(honest, codec="jpeg"),
        replace(honest, split=0),
        replace(honest, split=bundle.last),
        replace(honest, payload=honest.payload[:-1]),
        replace(honest, payload=head.pack(bits, math.nan, step) + honest.payload[head.size :]),
    ]
    websocket, going, number = await open_session(serving, bundle), ends(), 0
    while going():
        for message in lying:
            number += 1
            await websocket.send(encode(replace(message, id=number)))
            said = await answer(websocket)
            assert isinstance(said, Reject) and said.id == number, said
        number += 1
        await websocket.send(encode(replace(honest, id=number)))
        assert isinstance(await answer(websocket), Result)
    await websocket.close()


async def bombs(serving: ServerProcess, bundle: Bundle) -> None:
    """Pictures that are small as files and large in memory."""
    grey = np.zeros((12_000, 12_000), np.uint8)
    picture = cv2.imencode(".png", grey)[1].tobytes()
    photograph = bytearray(cv2.imencode(".jpg", np.zeros((64, 64, 3), np.uint8))[1].tobytes())
    at = photograph.index(b"\xff\xc0") + 5  # height and width
    photograph[at : at + 4] = b"\xff\xff\xff\xff"
    websocket, going, number = await open_session(serving, bundle), ends(), 0
    while going():
        for codec, payload in (("png", picture), ("jpeg", bytes(photograph))):
            number += 1
            await websocket.send(encode(Infer(number, 0, codec, None, 5000.0, payload)))
            said = await answer(websocket)
            assert isinstance(said, Reject) and said.reason in {"bad_payload", "bad_request"}, said
    await websocket.close()


async def forged_ids(serving: ServerProcess, bundle: Bundle) -> None:
    """Takes back requests that are somebody else's, and refers to activations that somebody else sent."""
    basis, zeros = basis_of(bundle, SPLIT), np.zeros(bundle.cut_points[SPLIT].shape, np.float32)
    _, held = transform.encode_key(basis, 7, zeros)
    websocket, going, number = await open_session(serving, bundle), ends(), 0
    while going():
        for _ in range(50):
            number += 1
            await websocket.send(encode(Cancel(number)))
        change = transform.encode(basis, 7, zeros, (number, held), key_bytes=1 << 30)[0]
        await websocket.send(encode(Infer(number, SPLIT, transform.NAME, None, 5000.0, change)))
        said = await answer(websocket)
        assert isinstance(said, Reject) and said.reason == "no_reference", said
    await websocket.close()


async def poison_in_the_batch(serving: ServerProcess, bundle: Bundle) -> None:
    """Activations of the largest numbers that there are, which run beside those of the client."""
    shape = bundle.cut_points[SPLIT].shape
    payload = cnn_co.encode(np.where(np.arange(np.prod(shape)).reshape(shape) % 2, 3e38, -3e38).astype(np.float32))
    websocket, going, number = await open_session(serving, bundle), ends(), 0
    while going():
        number += 1
        await websocket.send(encode(Infer(number, SPLIT, cnn_co.NAME, None, 5000.0, payload)))
        assert isinstance(await answer(websocket), Reject | Result)
    await websocket.close()


async def wrong_tokens_and_origins(serving: ServerProcess, bundle: Bundle) -> None:
    going = ends()
    while going():
        with contextlib.suppress(ConnectionClosed):
            websocket = await open_raw(serving)
            await websocket.send(encode(Hello("0" * 64, SUPPORTED, "wrong" * 100, "x")))
            assert isinstance(await answer(websocket), Reject)
            await websocket.close()
        with pytest.raises(InvalidStatus, match="403"):
            await connect(serving.address, origin="https://evil.example", subprotocols=[Subprotocol(SUBPROTOCOL)],
                          proxy=None)  # type: ignore[arg-type]  # fmt: skip


ATTACKS: dict[str, Attack] = {
    "a flood of pings, nothing read": pings,
    "a flood of fragments": fragments,
    "a flood of small messages": small_messages,
    "a slow reader": slow_reader,
    "500 slow handshakes": slow_handshakes,
    "dribbled messages": dribbled_messages,
    "noise": noise,
    "messages of 64 MiB": too_long,
    "lying shapes, lengths and codecs": lies,
    "picture bombs": bombs,
    "forged ids and references": forged_ids,
    "poison in the batch": poison_in_the_batch,
    "wrong tokens, bundles and origins": wrong_tokens_and_origins,
}


@pytest.mark.parametrize("name", ATTACKS)
def test_an_honest_client_notices_nothing(
    scene: Scene, serving: ServerProcess, bundle: Bundle, tmp_path: Path, name: str
) -> None:
    client = scene.client(tmp_path, "--server", serving.address)
    wait_for_server(client, count=30)
    before = memory_mb(serving.process.pid)
    with elsewhere(serving.process.pid):
        asyncio.run(ATTACKS[name](serving, bundle))
    over = recover(client)
    out = client.finish(interrupt=True)
    grown = memory_mb(serving.process.pid) - before
    scene.judge(name, [out], healthy=over, growth_mb=grown)
    assert serving.get("/healthz") == "ok\n"


@contextlib.contextmanager
def limited_server(limit: str) -> Iterator[tuple[ServerProcess, Callable[[], str]]]:
    """`spinn serve` in a process that sets a limit of its own first; and what it has said when it has ended."""
    script = f"import resource, sys, os\n{limit}\nos.execv(sys.argv[1], sys.argv[1:])"
    command = [sys.executable, "-c", script, str(SPINN), "serve", "--port", "0", "--runtime", "onnxruntime", *SMALL]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    def end() -> str:
        process.terminate()
        return process.communicate(timeout=15)[1]

    try:
        yield ServerProcess(process, wait_ready(process)), end
    finally:
        process.kill()
        process.communicate()


def test_files_are_exhausted_while_a_client_is_served(scene: Scene, tmp_path: Path) -> None:
    """120 connections to a server that may have 64 files."""
    with limited_server("resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))") as (serving, end):
        client = scene.client(tmp_path, "--server", serving.address)
        wait_for_server(client, count=30)
        before = memory_mb(serving.process.pid)
        socks = []
        for _ in range(120):
            with contextlib.suppress(OSError):
                socks.append(socket.create_connection(("127.0.0.1", serving.port), timeout=2))
        run_for(client, 3.0)
        for sock in socks:
            sock.close()
        over = recover(client)
        out = client.finish(interrupt=True)
        grown = memory_mb(serving.process.pid) - before
        assert serving.metric('spinn_refused_connections_total{reason="files"}') >= 120 - 64
        said = end()
    scene.judge("files exhausted, 64 and 120 connections", [out], healthy=over, growth_mb=grown)
    assert sum("ulimit" in line for line in said.splitlines()) == 1 and "Traceback" not in said


def test_memory_is_capped(scene: Scene, bundle: Bundle, tmp_path: Path) -> None:
    """The server may have 96 MB more than it has, and gets as much work as it takes."""
    resource = pytest.importorskip("resource")
    if not hasattr(resource, "prlimit"):
        pytest.skip("no prlimit here")
    with limited_server("") as (serving, end):
        client = scene.client(tmp_path, "--server", serving.address)
        wait_for_server(client, count=60)
        before = memory_mb(serving.process.pid)
        status = Path(f"/proc/{serving.process.pid}/status").read_text()
        size = int(next(line for line in status.splitlines() if line.startswith("VmSize")).split()[1]) * 1024
        most = size + CAP_MB * 1024 * 1024
        resource.prlimit(serving.process.pid, resource.RLIMIT_AS, (most, most))
        largest = max(range(1, bundle.last), key=lambda s: max_payload_bytes(bundle, s))
        activation = np.random.default_rng(1).random(bundle.cut_points[largest].shape, np.float32)
        payload, stop = cnn_co.encode(activation), threading.Event()

        async def work() -> None:
            websocket = await open_session(serving, bundle)
            with contextlib.suppress(ConnectionClosed):
                for number in range(10_000):
                    if stop.is_set():
                        break
                    await websocket.send(encode(Infer(number, largest, cnn_co.NAME, None, 500.0, payload)))
            websocket.transport.abort()

        async def several() -> None:
            await asyncio.wait_for(asyncio.gather(*(work() for _ in range(8)), return_exceptions=True), SECONDS + 10)

        timer = threading.Timer(SECONDS, stop.set)
        timer.start()
        with elsewhere(serving.process.pid):
            asyncio.run(several())
        over = recover(client)
        out = client.finish(interrupt=True)
        grown = memory_mb(serving.process.pid) - before
        said = end()
    assert "Traceback" not in said, said[-3000:]
    # resident memory may grow by more than the cap: by pages that were reserved before it
    scene.judge("memory capped", [out], healthy=over, growth_mb=grown, most_growth_mb=1.5 * CAP_MB)
