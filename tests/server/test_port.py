"""The port: bound first, honest about what stands behind it, and named so that a client can use the name."""

from __future__ import annotations

import asyncio
import socket
import urllib.error
import urllib.request

import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus

from spinn_client.link.dial import dial
from spinn_server.admin.metrics import Metrics
from spinn_server.carriers.websocket import listening
from spinn_server.server import Reception, Server, ServerConfig, listen_for
from spinn_server.work.scheduler import BatchLimits
from spinn_server.work.worker import TailEngine
from spinn_stream.bundle import Bundle
from spinn_stream.errors import ConfigError
from spinn_stream.runtime import Engine

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


def test_a_fault_of_our_own_behind_a_path_is_answered_and_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    class Broken:
        def answer(self, path: str) -> None:
            raise IndexError("beyond the end")

        async def serve(self, carrier: object) -> None:
            raise AssertionError("no session begins")

    async def main() -> None:
        async with listening(
            "127.0.0.1", 0, Broken(), tls=None, max_message_bytes=1000, name="test", metrics=Metrics()
        ) as address:
            status, said = await asyncio.to_thread(get, address, "/metrics")
            assert status == 500 and "the server made a mistake" in said

    asyncio.run(main())
    assert [record.exc_info[0] for record in caplog.records if record.exc_info] == [IndexError]


def test_a_fault_of_our_own_before_a_session_begins_is_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    class Broken:
        def answer(self, path: str) -> None:
            return None

        async def serve(self, carrier: object) -> None:
            raise IndexError("beyond the end")

    async def main() -> None:
        async with listening(
            "127.0.0.1", 0, Broken(), tls=None, max_message_bytes=1000, name="test", metrics=Metrics()
        ) as address:
            websocket = await dial(address, None, 1000)
            await websocket.wait_closed()

    asyncio.run(main())
    assert [record.exc_info[0] for record in caplog.records if record.exc_info] == [IndexError]
