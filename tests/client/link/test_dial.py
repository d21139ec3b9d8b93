"""Dialling: the first address that answers, and a reason for each way in which none does."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from http import HTTPStatus
from pathlib import Path
from typing import Any

import pytest
from websockets.asyncio.server import ServerConnection, serve
from websockets.typing import Subprotocol

from spinn_client.link import dial as dial_module
from spinn_client.link.dial import dial
from spinn_stream.errors import ConfigError, ServerUnreachable
from spinn_stream.wire import SUBPROTOCOL

from .certificates import server_context


@asynccontextmanager
async def listening(tls: ssl.SSLContext | None = None, status: HTTPStatus | None = None) -> AsyncIterator[int]:
    """A WebSocket server that begins sessions, or answers with a status instead; gives its port."""

    async def session(websocket: ServerConnection) -> None:
        await websocket.wait_closed()

    def instead(websocket: ServerConnection, request: Any) -> Any:
        return None if status is None else websocket.respond(status, "closed for today")

    async with serve(
        session, "127.0.0.1", 0, ssl=tls, process_request=instead, subprotocols=[Subprotocol(SUBPROTOCOL)]
    ) as server:
        yield next(iter(server.sockets)).getsockname()[1]


async def refused(url: str, ca: Path | None = None) -> str:
    with pytest.raises(ServerUnreachable) as raised:
        await dial(url, ca, 1000)
    return str(raised.value)


def test_a_name_whose_first_address_is_a_black_hole_is_reached_at_its_second(monkeypatch: pytest.MonkeyPatch) -> None:
    """The kernel drops who comes to a listener whose queue is full."""

    async def main() -> None:
        loop = asyncio.get_running_loop()
        with socket.socket() as hole, socket.socket() as first, socket.socket() as second:
            hole.bind(("127.0.0.2", 0))
            hole.listen(0)
            for filler in (first, second):
                filler.setblocking(False)
                filler.connect_ex(hole.getsockname())
            async with listening() as port:

                async def addresses(*asked: Any, **how: Any) -> list[Any]:
                    kind = (socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP, "")
                    return [(*kind, hole.getsockname()), (*kind, ("127.0.0.1", port))]

                monkeypatch.setattr(loop, "getaddrinfo", addresses)
                websocket = await dial("ws://server.example", None, 1000)
                assert websocket.remote_address == ("127.0.0.1", port)
                await websocket.close()

    asyncio.run(asyncio.wait_for(main(), 10))


def test_who_does_not_answer_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dial_module, "CONNECT_TIMEOUT_S", 0.1)

    async def main() -> None:
        silent = await asyncio.start_server(lambda reader, writer: None, "127.0.0.1", 0)
        async with silent:
            port = silent.sockets[0].getsockname()[1]
            assert "does not answer" in await refused(f"ws://127.0.0.1:{port}")

    asyncio.run(main())


def test_a_port_where_nothing_listens_is_said() -> None:
    assert "is `spinn serve` running there?" in asyncio.run(refused("ws://127.0.0.1:1"))


def test_a_name_that_nobody_knows_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> str:
        async def unknown(*asked: Any, **how: Any) -> list[Any]:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

        monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", unknown)
        return await refused("ws://sever.example:8765")

    assert "a name that is not known here" in asyncio.run(main())


@pytest.mark.parametrize(
    ("status", "said"),
    [
        (HTTPStatus.SERVICE_UNAVAILABLE, "answers 503: closed for today"),
        (HTTPStatus.NOT_FOUND, "nothing at the path /there"),
        (HTTPStatus.OK, "answers 200 but is not a spinn server"),
    ],
)
def test_a_status_instead_of_a_session_is_passed_on(status: HTTPStatus, said: str) -> None:
    async def main() -> str:
        async with listening(status=status) as port:
            return await refused(f"ws://127.0.0.1:{port}/there")

    assert said in asyncio.run(main())


@pytest.mark.parametrize(
    ("address", "days", "trusted", "said"),
    [
        ("127.0.0.1", 1, False, "trust it with --tls-ca FILE"),
        ("127.0.0.1", -1, True, "renew it, or set this machine's clock"),
        ("127.0.0.9", 1, True, "use a name or address that the certificate has"),
    ],
    ids=["self-signed", "expired", "another host's"],
)
def test_a_certificate_that_is_not_accepted_is_said_with_what_to_do(
    tmp_path: Path, address: str, days: int, trusted: bool, said: str
) -> None:
    async def main() -> str:
        context, ca = server_context(tmp_path, address=address, days=days)
        async with listening(context) as port:
            return await refused(f"wss://127.0.0.1:{port}", ca if trusted else None)

    assert said in asyncio.run(main())


def test_tls_where_there_is_none_is_said_and_the_other_way_round(tmp_path: Path) -> None:
    async def main() -> tuple[str, str]:
        context, _ = server_context(tmp_path)
        async with listening() as plain, listening(context) as tls:
            return await refused(f"wss://127.0.0.1:{plain}"), await refused(f"ws://127.0.0.1:{tls}")

    to_plain, to_tls = asyncio.run(main())
    assert "is it ws:// and not wss://?" in to_plain
    assert "is it wss:// and not ws://?" in to_tls


def test_a_trusted_certificate_is_accepted(tmp_path: Path) -> None:
    async def main() -> None:
        context, ca = server_context(tmp_path)
        async with listening(context) as port:
            await (await dial(f"wss://127.0.0.1:{port}", ca, 1000)).close()

    asyncio.run(main())


@pytest.mark.parametrize("url", ["ws://[fe80::1", "ws://[/x]", "http://x", "ws://", "", "ws://h:99999", "ws://h:x"])
def test_what_is_no_address_is_said(url: str) -> None:
    with pytest.raises(ConfigError, match=r"is not a server's address, expected ws://HOST:PORT"):
        asyncio.run(dial(url, None, 1000))
