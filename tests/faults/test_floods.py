"""Sockets that read nothing, and more sockets than files: cut off, counted, and nobody else is harmed."""

from __future__ import annotations

import asyncio
import resource
import signal
import socket
import subprocess
import sys
import time

import pytest

from spinn_stream.bundle import Bundle
from spinn_stream.codec import SUPPORTED
from spinn_stream.wire import Hello, encode

from ..bundles import SMALL
from ..processes import SPINN, ServerProcess, server, wait_ready
from .test_strangers import answer, good, open_session

MASK = b"\x00\x00\x00\x00"  # leaves the bytes as they are
PING = b"\x89" + bytes([0x80 | 125]) + MASK + bytes(125)
HANDSHAKE = (
    b"GET / HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n"
    b"Sec-WebSocket-Protocol: spinn.v1\r\n\r\n"
)
CUT_S = 8.0


def raw_session(port: int, bundle: Bundle | None) -> socket.socket:
    """A socket after the handshake, and after hello if there is a bundle; nothing is read from it any more."""
    sock = socket.create_connection(("127.0.0.1", port), timeout=CUT_S)
    sock.sendall(HANDSHAKE)
    assert b"101" in sock.recv(1000)
    if bundle is not None:
        hello = encode(Hello(bundle.hash, SUPPORTED, None, "test"))
        sock.sendall(b"\x82" + bytes([0x80 | 126]) + len(hello).to_bytes(2, "big") + MASK + hello)
    return sock


def flood(sock: socket.socket, seconds: float) -> bool:
    """Send pings, not too many at once; whether the other end has cut it off by then."""
    sock.settimeout(0.5)
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        try:
            sock.sendall(PING * 100)
            time.sleep(0.002)
        except TimeoutError:
            continue
        except OSError:
            return True
    return False


@pytest.mark.parametrize("after_hello", [False, True])
def test_pings_from_a_socket_that_reads_nothing_are_not_answered_for_ever(
    serving: ServerProcess, bundle: Bundle, after_hello: bool
) -> None:
    before = serving.memory_bytes()
    with raw_session(serving.port, bundle if after_hello else None) as sock:
        assert flood(sock, CUT_S), "it was never cut off"
    assert serving.memory_bytes() - before < 32 * 1024 * 1024
    refused = serving.get("/metrics")  # a server that is held up for a while sees many at once
    assert 'refused_connections_total{reason="not reading"}' in refused or '{reason="flood"}' in refused
    assert serving.metric("spinn_connections") <= 1  # the one that asks


def test_it_ends_in_time_while_sockets_flood_it(bundle: Bundle) -> None:
    with server() as serving:
        socks = [raw_session(serving.port, bundle if n % 2 else None) for n in range(4)]
        for sock in socks:
            sock.settimeout(0.01)
            try:
                for _ in range(20):
                    sock.sendall(PING * 500)
            except OSError:
                pass
        serving.process.send_signal(signal.SIGTERM)
        assert serving.process.wait(timeout=15) == 0
        for sock in socks:
            sock.close()


def test_more_sockets_than_files_are_refused_said_once_and_counted(bundle: Bundle) -> None:
    """64 files, 120 connections; afterwards a client is served."""
    script = (
        "import resource, sys, os\n"
        "resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64)); os.execv(sys.argv[1], sys.argv[1:])"
    )
    command = [sys.executable, "-c", script, str(SPINN), "serve", "--port", "0", "--runtime", "onnxruntime", *SMALL]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        serving = ServerProcess(process, wait_ready(process))
        socks = []
        for _ in range(120):
            try:
                socks.append(socket.create_connection(("127.0.0.1", serving.port), timeout=2))
            except OSError:
                break
        time.sleep(0.5)
        for sock in socks:
            sock.close()

        async def ask() -> None:
            async with asyncio.timeout(20):
                while True:
                    try:
                        websocket = await open_session(serving, bundle)
                        break
                    except Exception:  # whatever it is, it is over when the sockets are gone
                        await asyncio.sleep(0.1)
            await websocket.send(encode(good(bundle)))
            await answer(websocket)
            await websocket.close()

        asyncio.run(ask())
        refused = serving.metric('spinn_refused_connections_total{reason="files"}')
        assert refused >= 120 - 64
        process.send_signal(signal.SIGTERM)
        _, errors = process.communicate(timeout=15)
        said = [line for line in errors.splitlines() if "ulimit" in line]
        assert len(said) == 1 and process.returncode == 0
        assert "Traceback" not in errors
    finally:
        process.kill()
        process.communicate()


def test_a_process_that_may_have_more_files_takes_them() -> None:
    script = (
        "import resource; from spinn_server.process import room_for_sockets\n"
        "_, hard = resource.getrlimit(resource.RLIMIT_NOFILE)\n"
        "resource.setrlimit(resource.RLIMIT_NOFILE, (min(64, hard), hard))\n"
        "print(room_for_sockets())"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=30)
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < 200:
        pytest.skip(f"this process may have {hard} files at most")
    assert int(done.stdout) > 64
