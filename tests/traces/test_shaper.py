"""The shaper between real sockets: what passes, what ends, and what peers do wrong. How fast: benchmarks/shaper.py."""

from __future__ import annotations

import asyncio
import os
import socket
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import numpy as np
import pytest
import uvloop

from spinn_stream.errors import ConfigError
from spinn_stream.trace import DIRECTIONS, FIELDS, Trace
from spinn_traces.shape import flow
from spinn_traces.shape.connection import Connection
from spinn_traces.shape.flow import Direction
from spinn_traces.shape.link_model import Conditions, LinkModel, Steady
from spinn_traces.shape.settings import TRACE, Settings
from spinn_traces.shape.shaper import MAX_CONNECTIONS, Shaper

Peer = tuple[asyncio.StreamReader, asyncio.StreamWriter]
RESET = (ConnectionResetError, BrokenPipeError)


def run(test: Callable[[], Awaitable[None]]) -> None:
    async def limited() -> None:
        async with asyncio.timeout(30):
            await test()

    uvloop.run(limited())  # as `spinn shape` does; tests/shaped.py has asyncio's own loop


@asynccontextmanager
async def far_end() -> AsyncIterator[tuple[int, asyncio.Queue[Peer]]]:
    """A server's port, and the connections that come."""
    came: asyncio.Queue[Peer] = asyncio.Queue()
    server = await asyncio.start_server(lambda reader, writer: came.put_nowait((reader, writer)), "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1], came
    finally:
        server.close()
        while not came.empty():
            came.get_nowait()[1].transport.abort()


@asynccontextmanager
async def shaped(
    settings: Settings | None = None, trace: Trace | None = None
) -> AsyncIterator[tuple[Shaper, Peer, Peer]]:
    """A connection through the shaper: the client's end and the server's."""
    async with far_end() as (target, came):
        shaper = Shaper("127.0.0.1", target, settings)
        async with shaper.listen("127.0.0.1", 0) as port:
            client = await asyncio.open_connection("127.0.0.1", port)
            server = await came.get()
            try:
                yield shaper, client, server
            finally:
                client[1].transport.abort()
                server[1].transport.abort()


async def push(writer: asyncio.StreamWriter, data: bytes) -> None:
    writer.write(data)
    await writer.drain()


async def told_to_go(port: int) -> None:
    """A connection whose other end says nothing."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)  # the reset may come as early as this
    try:
        assert await reader.read() == b""
    finally:
        writer.transport.abort()


SETTINGS = [
    Settings(),
    Settings(up_mbps=80, down_mbps=80, rtt_ms=20, jitter_ms=10),
    Settings(up_mbps=200, down_mbps=100, rtt_ms=2, loss=0.02, queue_bytes=30_000),
]


@pytest.mark.parametrize("settings", SETTINGS)
def test_every_byte_passes_once_and_in_order_both_ways(settings: Settings) -> None:
    async def test() -> None:
        data = os.urandom(1_000_000)
        async with shaped(settings) as (shaper, client, server):
            sending = [asyncio.create_task(push(end[1], data)) for end in (client, server)]
            got = await asyncio.gather(*(end[0].readexactly(len(data)) for end in (client, server)))
            await asyncio.gather(*sending)
            assert got == [data, data]
            state = shaper.state()
            assert state["up"]["delivered_bytes"] == state["down"]["delivered_bytes"] == len(data)
            assert state["connections"] == 1

    run(test)


def test_bytes_keep_their_order_while_what_is_imposed_comes_and_goes() -> None:
    async def test() -> None:
        data = os.urandom(3_000_000)
        async with shaped() as (shaper, client, server):
            sending = asyncio.create_task(push(client[1], data))
            got = b""
            for step in range(30):
                shaper.change({"up_mbps": 40 if step % 3 == 2 else None, "rtt_ms": 10 if step % 3 == 1 else 0})
                got += await server[0].readexactly(len(data) // 30)
            await sending
            assert got == data

    run(test)


def test_the_receive_buffer_is_wide_where_no_capacity_is_imposed() -> None:
    async def test() -> None:
        async with far_end() as (target, came):
            directions = {name: Direction(LinkModel(Conditions())) for name in DIRECTIONS}
            with socket.create_server(("127.0.0.1", 0)) as listener:
                client = socket.create_connection(listener.getsockname())
                accepted, _ = listener.accept()
            accepted.setblocking(False)
            connection = Connection(accepted, ("127.0.0.1", target), directions)
            task = asyncio.create_task(connection.run())
            server = await came.get()
            client.send(b"a")
            assert await server[0].readexactly(1) == b"a"
            widths = []
            for mbps in (None, 1.0, None):
                directions["up_mbps"].model.change(time.monotonic(), Conditions(Steady(mbps)))
                connection.fit_buffers()
                widths.append(accepted.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF))
            assert widths[0] == widths[2] >= flow.WIDE_RECEIVE_BUFFER_BYTES > widths[1]
            connection.fail()
            await task
            client.close()

    run(test)


@pytest.mark.parametrize("first", ["client", "server"])
def test_a_half_closed_connection_goes_on_the_other_way(first: str) -> None:
    async def test() -> None:
        async with shaped(Settings(rtt_ms=20, up_mbps=10, down_mbps=10)) as (shaper, client, server):
            here, there = (client, server) if first == "client" else (server, client)
            here[1].write(b"question")
            here[1].write_eof()
            assert await there[0].read() == b"question"  # to the end, which came after the bytes
            await push(there[1], bytes(100_000))
            assert await here[0].readexactly(100_000) == bytes(100_000)
            there[1].write_eof()
            assert await here[0].read() == b""
            while shaper.state()["connections"]:  # noqa: ASYNC110 - its own business when it lets go
                await asyncio.sleep(0.01)

    run(test)


@pytest.mark.parametrize("first", ["client", "server"])
def test_a_reset_of_one_end_resets_the_other(first: str) -> None:
    async def test() -> None:
        async with shaped(Settings(rtt_ms=20)) as (_, client, server):
            here, there = (client, server) if first == "client" else (server, client)
            await push(here[1], b"x")
            assert await there[0].readexactly(1) == b"x"
            here[1].get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            here[1].transport.abort()
            with pytest.raises(RESET):
                await there[0].read()

    run(test)


def test_a_reset_on_demand_ends_every_connection_and_lets_new_ones_come() -> None:
    async def test() -> None:
        async with far_end() as (target, came):
            shaper = Shaper("127.0.0.1", target)
            async with shaper.listen("127.0.0.1", 0) as port:
                clients = [await asyncio.open_connection("127.0.0.1", port) for _ in range(3)]
                servers = [await came.get() for _ in range(3)]
                shaper.change({"reset": True})
                for reader, _ in clients + servers:
                    with pytest.raises(RESET):
                        await reader.read()
                again, writer = await asyncio.open_connection("127.0.0.1", port)
                there = await came.get()
                await push(there[1], b"here")
                assert await again.readexactly(4) == b"here"
                for end in (*clients, *servers, (again, writer), there):
                    end[1].transport.abort()

    run(test)


def test_while_refusing_new_connections_are_refused_and_old_ones_go_on() -> None:
    async def test() -> None:
        async with shaped() as (shaper, client, server):
            port = client[1].get_extra_info("peername")[1]
            shaper.change({"refuse": True})
            with pytest.raises(ConnectionRefusedError):
                await asyncio.open_connection("127.0.0.1", port)
            await push(client[1], b"still")
            assert await server[0].readexactly(5) == b"still"
            shaper.change({"refuse": False})
            _, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.transport.abort()

    run(test)


def test_where_the_server_is_away_the_client_is_reset() -> None:
    async def test() -> None:
        async with far_end() as (target, _):
            pass
        async with Shaper("127.0.0.1", target).listen("127.0.0.1", 0) as port:
            with pytest.raises(RESET):
                await told_to_go(port)

    run(test)


def test_a_peer_that_does_not_read_stops_its_sender_and_nobody_else() -> None:
    """What is accepted for it is bounded: our outbox and buffers, and both ends' own."""

    async def test() -> None:
        async with far_end() as (target, came):
            shaper = Shaper("127.0.0.1", target, Settings(rtt_ms=10))
            async with shaper.listen("127.0.0.1", 0) as port:
                deaf, loud = socket.socket(), socket.socket()
                deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
                loop = asyncio.get_running_loop()
                servers = []
                for end in (deaf, loud):
                    end.setblocking(False)
                    await loop.sock_connect(end, ("127.0.0.1", port))
                    servers.append(await came.get())
                sender = servers[0][1]
                sender.transport.set_write_buffer_limits(high=0)
                taken = 0
                try:
                    while taken < 100_000_000:
                        async with asyncio.timeout(0.5):
                            await push(sender, bytes(10_000))
                        taken += 10_000
                except TimeoutError:
                    pass
                assert taken < 3_000_000  # less than the queue and way could hold
                held = shaper.state()["down"]["delivered_bytes"]
                await push(servers[1][1], bytes(300_000))
                left = 300_000
                while left:
                    left -= len(await loop.sock_recv(loud, 65536))
                assert shaper.state()["down"]["delivered_bytes"] >= held + 300_000
                deaf.close()
                loud.close()
                for server in servers:
                    server[1].transport.abort()

    run(test)


def test_the_sender_feels_the_link_soon() -> None:
    """Bytes that a slow link has not taken are few: the queue, our buffer and the sender's own."""

    async def test() -> None:
        async with far_end() as (target, came):
            shaper = Shaper("127.0.0.1", target, Settings(up_mbps=0.1, queue_bytes=20_000))
            async with shaper.listen("127.0.0.1", 0) as port:
                client = socket.socket()
                client.setblocking(False)
                await asyncio.get_running_loop().sock_connect(client, ("127.0.0.1", port))
                server = await came.get()
                assert client.getsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG) <= flow.MAX_SEGMENT_BYTES
                there = server[1].get_extra_info("socket")
                assert there.getsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG) <= flow.MAX_SEGMENT_BYTES
                taken, end = 0, time.monotonic() + 0.5
                while time.monotonic() < end:
                    try:
                        taken += client.send(bytes(1000))
                    except BlockingIOError:
                        await asyncio.sleep(0.01)
                assert taken < 200_000  # 20 kB queue, 8 kB our buffer, the rest the sender's own
                client.close()
                server[1].transport.abort()

    run(test)


def test_more_connections_than_the_most_are_reset() -> None:
    async def test() -> None:
        async with far_end() as (target, came):
            shaper = Shaper("127.0.0.1", target)
            async with shaper.listen("127.0.0.1", 0) as port:
                ends = []
                for _ in range(MAX_CONNECTIONS):
                    ends += [await asyncio.open_connection("127.0.0.1", port), await came.get()]
                with pytest.raises(RESET):
                    await told_to_go(port)
                for _, other in ends:
                    other.transport.abort()

    run(test)


def test_everything_ends_with_the_shaper() -> None:
    async def test() -> None:
        async with far_end() as (target, came):
            async with Shaper("127.0.0.1", target, Settings(up_mbps=0.1)).listen("127.0.0.1", 0) as port:
                client = await asyncio.open_connection("127.0.0.1", port)
                server = await came.get()
                client[1].write(bytes(1_000_000))
                await asyncio.sleep(0.05)
            with pytest.raises(RESET):
                await server[0].read()
            assert asyncio.all_tasks() == {asyncio.current_task()}
            client[1].transport.abort()
            server[1].transport.abort()

    run(test)


def test_an_address_in_use_is_told() -> None:
    async def test() -> None:
        async with far_end() as (taken, _):
            with pytest.raises(ConfigError, match=rf"cannot listen on 127.0.0.1:{taken}: "):
                async with Shaper("127.0.0.1", 1).listen("127.0.0.1", taken):
                    pass

    run(test)


def a_trace() -> Trace:
    return Trace(np.array([0.0, 5.0]), 10.0, up_mbps=np.array([8.0, 0.5]), rtt_ms=np.array([30.0, 90.0])).filled()


def test_a_trace_begins_with_the_first_connection_and_can_be_moved() -> None:
    async def test() -> None:
        settings = Settings(**dict.fromkeys(FIELDS, TRACE))  # type: ignore[arg-type]
        trace = a_trace()
        async with far_end() as (target, came):
            shaper = Shaper("127.0.0.1", target, settings, trace=trace, offset_s=4.0)
            async with shaper.listen("127.0.0.1", 0) as port:
                assert shaper.state()["trace"] == {"position_s": 4.0, "duration_s": 10.0}
                began = time.monotonic()
                client = await asyncio.open_connection("127.0.0.1", port)
                server = await came.get()
                position_s = shaper.state()["trace"]["position_s"]
                assert 4.0 < position_s <= 4.001 + time.monotonic() - began
                shaper.change({"position_s": 6.0, "rtt_ms": 10})
                state = shaper.state()
                assert state["imposed"] == {"up_mbps": 0.5, "down_mbps": 0.5, "rtt_ms": 10, "loss": 0.0}
                shaper.change({"rtt_ms": "trace", "up_mbps": None})
                state = shaper.state()
                assert state["imposed"] == {"up_mbps": None, "down_mbps": 0.5, "rtt_ms": 90.0, "loss": 0.0}
                assert [c.get("rtt_ms") for c in state["changes"]] == [10, "trace"]
                assert state["changes"][0]["at_s"] < state["changes"][1]["at_s"] < time.monotonic()
                for end in (client, server):
                    end[1].transport.abort()

    run(test)


def test_a_stall_holds_everything_back_until_it_ends() -> None:
    async def test() -> None:
        async with shaped() as (shaper, client, server):
            shaper.stall(True)
            await push(client[1], b"late")
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.2):
                    await server[0].readexactly(4)
            shaper.stall(False)
            assert await server[0].readexactly(4) == b"late"

    run(test)
