"""The port: bound first, honest about what stands behind it, and named so that a client can use the name."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import time
import urllib.error
import urllib.request
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager

import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from spinn_client.link.dial import dial
from spinn_server.admin.health import Health
from spinn_server.admin.metrics import Metrics
from spinn_server.admin.routes import HttpAnswer, look_up, routes
from spinn_server.carriers.base import Carrier, CarrierClosed, Service
from spinn_server.carriers.peers import Front, read_networks
from spinn_server.carriers.websocket import listening
from spinn_server.server import Reception, Server, ServerConfig, listen_for
from spinn_server.work.scheduler import BatchLimits
from spinn_server.work.worker import TailEngine
from spinn_stream.bundle import Bundle
from spinn_stream.errors import ConfigError, ServerUnreachable
from spinn_stream.runtime import Engine

from .asgi import uvicorn_around

ANY = ServerConfig(port=0)


def get(address: str, path: str) -> tuple[int, str]:
    """Status and body."""
    try:
        with urllib.request.urlopen(f"http{address.removeprefix('ws')}{path}", timeout=10) as response:
            return response.status, response.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()


def test_before_there_is_an_engine_it_is_alive_and_not_ready(bundle: Bundle, engine: Engine) -> None:
    async def main() -> None:
        metrics = Metrics()
        reception = Reception(metrics)
        async with listen_for(reception, [bundle], ANY, None, metrics) as address:
            assert await asyncio.to_thread(get, address, "/healthz") == (200, "ok\n")
            for path in ("/readyz", "/"):
                said = await asyncio.to_thread(get, address, path)
                assert said == (503, "starting: the engine is being set up\n")
            with pytest.raises(InvalidStatus, match="503"):
                await connect(address, proxy=None)
            server = Server([TailEngine(bundle, engine, BatchLimits(), metrics)], metrics, ANY)
            reception.hand_to(server)
            async with server.running():
                assert await asyncio.to_thread(get, address, "/readyz") == (200, "ok\n")
                await (await dial(address, None, 1000)).close()

    asyncio.run(main())


def test_a_port_that_is_taken_is_said_at_once(bundle: Bundle) -> None:
    async def main(port: int) -> None:
        with pytest.raises(ConfigError, match=rf"cannot listen on 127\.0\.0\.1:{port}: .*in use"):
            async with listen_for(Reception(Metrics()), [bundle], ServerConfig(port=port), None, Metrics()):
                pass

    with socket.create_server(("127.0.0.1", 0)) as taken:
        asyncio.run(main(taken.getsockname()[1]))


@pytest.mark.parametrize("host", ["no-such-host.invalid", "a..b", "x" * 300])
def test_a_host_that_is_none_is_said(bundle: Bundle, host: str) -> None:
    async def main() -> None:
        with pytest.raises(ConfigError, match="cannot listen on"):
            async with listen_for(Reception(Metrics()), [bundle], ServerConfig(host=host, port=0), None, Metrics()):
                pass

    asyncio.run(main())


def test_an_address_of_ipv6_is_printed_as_its_own_client_takes_it(bundle: Bundle, engine: Engine) -> None:
    try:
        with socket.create_server(("::1", 0), family=socket.AF_INET6):
            pass
    except OSError:
        pytest.skip("this machine has no IPv6")

    async def main() -> None:
        tail = TailEngine(bundle, engine, BatchLimits(), Metrics())
        async with Server([tail], Metrics(), ServerConfig(host="::1", port=0)).listen() as address:
            assert address.startswith("ws://[::1]:")
            await (await dial(address, None, 1000)).close()

    asyncio.run(main())


class Welcoming:
    """A service that begins every session, and remembers who came."""

    def __init__(self) -> None:
        self.peers: list[str] = []

    def answer(self, path: str) -> HttpAnswer | None:
        return None if path == "/" else look_up(routes(Health(), Metrics()), path)

    async def serve(self, carrier: Carrier) -> None:
        self.peers.append(carrier.peer)
        await carrier.close(1000, "")


def port_of(service: Service, metrics: Metrics, front: Front) -> AbstractAsyncContextManager[str]:
    return listening(
        "127.0.0.1", 0, service, tls=None, max_message_bytes=1000, name="test", metrics=metrics, front=front
    )


Port = Callable[[Service, Metrics, Front], AbstractAsyncContextManager[str]]
both_carriers = pytest.mark.parametrize("port", [port_of, uvicorn_around], ids=["websocket", "asgi"])


@both_carriers
def test_behind_a_proxy_that_keeps_its_path_prefix_all_paths_have_it(port: Port) -> None:
    async def main() -> None:
        service = Welcoming()
        async with port(service, Metrics(), Front(path_prefix="/spinn")) as address:
            assert address.endswith("/spinn")
            assert await asyncio.to_thread(get, address, "/healthz") == (200, "ok\n")
            bare = address.removesuffix("/spinn")
            assert (await asyncio.to_thread(get, bare, "/healthz"))[0] == 200  # a probe that asks the server itself
            for url in (address, address + "/", bare):
                await (await dial(url, None, 1000)).wait_closed()
            assert len(service.peers) == 3
            with pytest.raises(ServerUnreachable, match=r"answers 404: there is nothing at the path /other"):
                await dial(bare + "/other", None, 1000)

    asyncio.run(main())


@pytest.mark.parametrize("prefix", ["spinn", "/spinn/", "/"])
def test_a_path_prefix_that_is_none_is_said(prefix: str) -> None:
    with pytest.raises(ValueError, match="expected one like /spinn"):
        Front(path_prefix=prefix)


@both_carriers
def test_pages_of_other_origins_are_refused_and_counted_and_programs_are_not(port: Port) -> None:
    async def main() -> None:
        metrics, service = Metrics(), Welcoming()
        async with port(service, metrics, Front(origins=frozenset({"https://example.org"}))) as address:
            for origin in (None, "https://example.org"):
                await (await connect(address, proxy=None, origin=origin, subprotocols=["spinn.v1"])).wait_closed()
            with pytest.raises(InvalidStatus, match="403"):
                await connect(address, proxy=None, origin="https://evil.example", subprotocols=["spinn.v1"])
            assert len(service.peers) == 2
            (refused,) = [s for m in metrics.registry.collect() for s in m.samples if s.labels == {"reason": "origin"}
                          and s.name.endswith("_total")]  # fmt: skip
            assert refused.value == 1

    asyncio.run(main())


@pytest.mark.parametrize(
    ("path", "origins", "status"),
    [
        ("/", ["https://example.org", "https://evil.example"], "403"),
        ("/", ["https://example.org"] * 2, "400"),
        ("/nowhere", ["https://example.org"] * 2, "404"),
    ],
)
def test_a_request_with_several_origins_is_refused_and_is_no_fault_of_ours(
    path: str, origins: list[str], status: str
) -> None:
    async def main() -> None:
        async with port_of(Welcoming(), Metrics(), Front(origins=frozenset({"https://example.org"}))) as address:
            headers = [("Origin", origin) for origin in origins]
            with pytest.raises(InvalidStatus, match=status):
                await connect(address + path, proxy=None, additional_headers=headers, subprotocols=["spinn.v1"])

    asyncio.run(main())


@pytest.mark.parametrize(
    ("forwarded", "proxies", "expected"),
    [
        ([], ["10.0.0.0/8"], "10.0.0.1:7"),
        (["1.2.3.4"], ["10.0.0.0/8"], "1.2.3.4 via 10.0.0.1:7"),
        (["1.2.3.4"], [], "10.0.0.1:7"),  # anybody can write that
        (["6.6.6.6, 1.2.3.4"], ["10.0.0.0/8"], "1.2.3.4 via 10.0.0.1:7"),  # what the client wrote is not believed
        (["1.2.3.4", "10.0.0.9"], ["10.0.0.0/8"], "1.2.3.4 via 10.0.0.1:7"),
        (["1.2.3.4, unknown\x1b[31m"], ["10.0.0.0/8"], "10.0.0.1:7"),
        (["::1"], ["10.0.0.0/8"], "::1 via 10.0.0.1:7"),
    ],
)
def test_who_is_behind_a_proxy_is_believed_of_trusted_ones_alone(
    forwarded: list[str], proxies: list[str], expected: str
) -> None:
    assert Front(proxies=read_networks(proxies)).peer(("10.0.0.1", 7), forwarded) == expected


def test_a_peer_without_an_internet_address_is_no_proxy() -> None:
    front = Front(proxies=read_networks(["0.0.0.0/0"]))
    assert front.peer("", ["192.0.2.1"]) == "a peer without address"  # of a Unix socket
    assert front.peer(("fe80::1%nowhere%", 7), ["192.0.2.1"]) == "[fe80::1%nowhere%]:7"


def test_a_network_that_is_none_is_refused() -> None:
    with pytest.raises(ValueError, match=r"a trusted proxy: .*, expected one like 10\.0\.0\.0/8 or 10\.0\.0\.1"):
        read_networks(["10.0.0.0/8", "10.0.0"])


def test_a_message_s_time_is_that_of_its_arrival_not_of_its_reading() -> None:
    read: list[tuple[bytes, float]] = []

    class Slow(Welcoming):
        async def serve(self, carrier: Carrier) -> None:
            await may_read.wait()
            read.extend([await carrier.recv() for _ in range(3)])
            await carrier.close(1000, "")

    async def main() -> None:
        async with port_of(Slow(), Metrics(), Front()) as address:
            client = await dial(address, None, 1000)
            began = time.monotonic()
            for message in (b"first", [b"sec", b"ond"], b"third"):  # the second one in two frames
                await client.send(message)
            await (await client.ping())  # the server has taken in what was sent before it
            arrived = time.monotonic()
            may_read.set()
            await client.wait_closed()
            assert [data for data, _ in read] == [b"first", b"second", b"third"]
            times = [at for _, at in read]
            assert began <= times[0] <= times[1] <= times[2] <= arrived

    may_read = asyncio.Event()
    asyncio.run(main())


def test_a_message_of_endlessly_many_frames_is_cut_off() -> None:
    async def main() -> None:
        metrics, ended = Metrics(), asyncio.Event()

        class Reading(Welcoming):
            async def serve(self, carrier: Carrier) -> None:
                with pytest.raises(CarrierClosed):
                    await carrier.recv()
                ended.set()

        async def endless() -> AsyncIterator[bytes]:
            while True:
                yield b""
                await asyncio.sleep(0)

        async with port_of(Reading(), metrics, Front()) as address:
            with pytest.raises(ConnectionClosed):
                await (await dial(address, None, 1000)).send(endless())
            await asyncio.wait_for(ended.wait(), 10)
        assert metrics.refused_connections.labels("fragments")._value.get() == 1

    asyncio.run(main())


@pytest.mark.parametrize("frame", [b"\x82\x80", b"\x89\x80"], ids=["messages", "pings"])
@pytest.mark.parametrize(("count", "flood"), [(100, 0), (20_000, 1)])
def test_who_sends_very_many_frames_at_once_is_cut_off(frame: bytes, count: int, flood: int) -> None:
    """They take time, of which others get none meanwhile."""

    class Reading(Welcoming):
        async def serve(self, carrier: Carrier) -> None:
            with contextlib.suppress(CarrierClosed):
                while True:
                    await carrier.recv()

    async def main() -> None:
        metrics = Metrics()
        async with port_of(Reading(), metrics, Front()) as address:
            websocket = await dial(address, None, 1000)
            websocket.transport.write((frame + bytes(4)) * count)
            try:
                async with asyncio.timeout(5):
                    await websocket.ping()
                    await (await websocket.ping())
            except ConnectionClosed:
                assert flood
            else:
                assert not flood
                await websocket.close()
        assert metrics.refused_connections.labels("flood")._value.get() == flood

    asyncio.run(main())


def test_a_socket_beyond_the_most_is_cut_off() -> None:
    async def main() -> None:
        metrics = Metrics()
        port = listening("127.0.0.1", 0, Welcoming(), tls=None, max_message_bytes=1000, name="test", metrics=metrics,
                         max_sockets=1)  # fmt: skip
        async with port as address:
            number = int(address.rpartition(":")[2])
            _, first = await asyncio.open_connection("127.0.0.1", number)
            reader, second = await asyncio.open_connection("127.0.0.1", number)
            with contextlib.suppress(ConnectionError):
                assert await reader.read() == b""
            for writer in (first, second):
                writer.close()

    asyncio.run(main())


@both_carriers
def test_a_fault_of_our_own_behind_a_path_is_answered_and_logged_once(
    port: Port, caplog: pytest.LogCaptureFixture
) -> None:
    class Broken:
        def answer(self, path: str) -> None:
            raise IndexError("beyond the end")

        async def serve(self, carrier: object) -> None:
            raise AssertionError("no session begins")

    async def main() -> None:
        async with port(Broken(), Metrics(), Front()) as address:
            status, said = await asyncio.to_thread(get, address, "/metrics")
            assert status == 500 and "the server made a mistake" in said

    asyncio.run(main())
    assert [record.exc_info[0] for record in caplog.records if record.exc_info] == [IndexError]


@both_carriers
def test_a_fault_of_our_own_before_a_session_begins_is_logged_once(
    port: Port, caplog: pytest.LogCaptureFixture
) -> None:
    class Broken:
        def answer(self, path: str) -> None:
            return None

        async def serve(self, carrier: object) -> None:
            raise IndexError("beyond the end")

    async def main() -> None:
        async with port(Broken(), Metrics(), Front()) as address:
            websocket = await dial(address, None, 1000)
            await websocket.wait_closed()

    asyncio.run(main())
    assert [record.exc_info[0] for record in caplog.records if record.exc_info] == [IndexError]
