"""The control endpoint: what it tells, what it changes, and what it refuses."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from spinn_stream.errors import ConfigError
from spinn_traces.shape import control
from spinn_traces.shape.control import MAX_BODY_BYTES, MAX_HEAD_BYTES, control_endpoint
from spinn_traces.shape.settings import Settings
from spinn_traces.shape.shaper import Shaper


def with_control(test: Callable[[Shaper, int], Awaitable[None]]) -> None:
    async def main() -> None:
        shaper = Shaper("127.0.0.1", 1, Settings(rtt_ms=20))
        async with asyncio.timeout(30), shaper.listen("127.0.0.1", 0), control_endpoint(shaper, "127.0.0.1", 0) as port:
            await test(shaper, port)

    asyncio.run(main())


async def ask(port: int, data: bytes) -> tuple[int, Any]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(data)
    writer.write_eof()
    answer = await reader.read()
    writer.close()
    head, _, body = answer.partition(b"\r\n\r\n")
    assert f"Content-Length: {len(body)}".encode() in head
    return int(head.split()[1]), json.loads(body)


def post(body: bytes) -> bytes:
    return b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)


def test_get_tells_the_state() -> None:
    async def test(shaper: Shaper, port: int) -> None:
        status, state = await ask(port, b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        assert status == 200
        assert state["imposed"] == {"up_mbps": None, "down_mbps": None, "rtt_ms": 20, "loss": 0.0}
        assert state["trace"] is None and state["connections"] == 0 and state["changes"] == []
        assert state["up"] == state["down"] == {"delivered_bytes": 0, "queued_bytes": 0, "losses": 0}
        assert abs(state["now_s"] - time.monotonic()) < 5

    with_control(test)


def test_post_changes_settings_and_says_when() -> None:
    async def test(shaper: Shaper, port: int) -> None:
        before = time.monotonic()
        status, state = await ask(port, post(b'{"up_mbps": 0.5, "loss": 0.01, "queue_bytes": 30000, "stall": true}'))
        assert status == 200 and before <= state["at_s"] <= time.monotonic()
        assert (shaper.settings.up_mbps, shaper.settings.loss, shaper.settings.rtt_ms) == (0.5, 0.01, 20)
        assert shaper.settings.stall and shaper.settings.queue_bytes == 30_000
        assert state["changes"] == [
            {"at_s": state["at_s"], "up_mbps": 0.5, "loss": 0.01, "queue_bytes": 30000, "stall": True}
        ]

    with_control(test)


BAD = [
    (b'{"up_mbps": -1}', "up_mbps is -1, expected 0 to 100000"),
    (b'{"up_mbps": "fast"}', "up_mbps is 'fast', expected"),
    (b'{"up_mbps": "trace"}', "up_mbps is 'trace', but there is no trace"),
    (b'{"up_mbps": true}', "up_mbps is True, expected"),
    (b'{"up_mbps": 1e999}', "up_mbps is inf"),
    (b'{"rtt_ms": NaN}', "rtt_ms is nan"),
    (b'{"rtt_ms": null}', "rtt_ms is None"),
    (b'{"jitter_ms": "trace"}', "jitter_ms is 'trace', expected 0 to 60000"),
    (b'{"loss": 2}', "loss is 2, expected 0 to 1"),
    (b'{"queue_bytes": 10}', "queue_bytes is 10, expected 1448"),
    (b'{"stall": 1}', "stall is 1, expected true or false"),
    (b'{"reset": "now"}', "reset is 'now', expected true or false"),
    (b'{"position_s": 3}', "position_s is given, but there is no trace"),
    (b'{"colour": 3}', "'colour' is no setting, expected some of up_mbps"),
    (b"[1]", "no JSON object of settings"),
    (b"{", "no JSON object of settings"),
    (b"\xff\xfe", "no JSON object of settings"),
    (b"[" * 4000, "no JSON object of settings"),
    (b"", "no JSON object of settings"),
    (b'{"up_mbps": 1, "rtt_ms": -1}', "rtt_ms is -1"),
]


@pytest.mark.parametrize(("body", "said"), BAD, ids=lambda value: str(value)[:30])
def test_settings_that_make_no_sense_change_nothing(body: bytes, said: str) -> None:
    async def test(shaper: Shaper, port: int) -> None:
        before = shaper.settings
        status, answer = await ask(port, post(body))
        assert status == 400 and said in answer["error"] and "\n" not in answer["error"]
        assert shaper.settings == before and not shaper.changes

    with_control(test)


GARBAGE = [
    (b"", 400, "ends within its head"),
    (b"\x16\x03\x01" + bytes(100) + b"\r\n\r\n", 400, "expected a request such as GET / HTTP/1.1"),
    (b"GET /", 400, "ends within its head"),
    (b"GET /metrics HTTP/1.1\r\n\r\n", 404, "expected /"),
    (b"DELETE / HTTP/1.1\r\n\r\n", 405, "expected GET or POST"),
    (b"POST / HTTP/1.1\r\nContent-Length: -4\r\n\r\n{}", 400, "Content-Length is '-4'"),
    (b"POST / HTTP/1.1\r\nContent-Length: 9\r\n\r\n{}", 400, "ends before its 9 bytes"),
    (b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n", 400, "comes in chunks"),
    (post(b" " * (MAX_BODY_BYTES + 1)), 413, f"expected at most {MAX_BODY_BYTES}"),
    (b"GET / HTTP/1.1\r\nX: " + b"x" * (2 * MAX_HEAD_BYTES) + b"\r\n\r\n", 400, f"more than {MAX_HEAD_BYTES} bytes"),
]


@pytest.mark.parametrize(("data", "status", "said"), GARBAGE, ids=lambda value: str(value)[:30])
def test_garbage_gets_one_line(data: bytes, status: int, said: str) -> None:
    async def test(shaper: Shaper, port: int) -> None:
        got, answer = await ask(port, data)
        assert got == status and said in answer["error"]
        assert (await ask(port, b"GET / HTTP/1.1\r\n\r\n"))[0] == 200

    with_control(test)


def test_who_sends_nothing_is_sent_away(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(control, "TIMEOUT_S", 0.05)

    async def test(shaper: Shaper, port: int) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        with contextlib.suppress(ConnectionResetError):
            assert await reader.read() == b""
        writer.transport.abort()

    with_control(test)


def test_an_address_in_use_is_told() -> None:
    async def test(shaper: Shaper, port: int) -> None:
        with pytest.raises(ConfigError, match=r"cannot listen on 127\.0\.0\.1"):
            async with control_endpoint(shaper, "127.0.0.1", port):
                pass

    with_control(test)
