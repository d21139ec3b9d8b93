"""The ASGI application: what it says to an ASGI server, and a session's carrier in it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from spinn_client.link.dial import dial
from spinn_server.admin.metrics import Metrics
from spinn_server.admin.routes import HttpAnswer, unavailable
from spinn_server.carriers.asgi import Application, AsgiCarrier
from spinn_server.carriers.base import Carrier, CarrierClosed
from spinn_server.carriers.peers import Front, read_networks
from spinn_stream.errors import RemoteProtocolError

from .asgi import AsgiClient, ask, scope_of, uvicorn_around

MOST = 1000


class Session:
    """A service whose one session a test's coroutine is."""

    def __init__(self, serve: Callable[[Carrier], Awaitable[None]], answer: HttpAnswer | None = None) -> None:
        self.serve = serve
        self._answer = answer

    def answer(self, path: str) -> HttpAnswer | None:
        return self._answer


async def nobody(carrier: Carrier) -> None:
    raise AssertionError("no session begins")


def application(serve: Callable[[Carrier], Awaitable[None]] = nobody, *answer: HttpAnswer, **more: Any) -> Application:
    return Application(Session(serve, *answer), Metrics(), max_message_bytes=MOST, **more)


def test_plain_requests_are_answered_by_the_service_with_type_and_length() -> None:
    status, headers, body = asyncio.run(ask(application(nobody, unavailable("not yet")), "/"))
    assert (status, body) == (503, b"not yet\n")
    assert headers == {b"content-type": b"text/plain; charset=utf-8", b"content-length": b"8"}


def test_a_plain_request_where_sessions_begin_is_told_what_is_expected() -> None:
    assert asyncio.run(ask(application(), "/"))[::2] == (426, b"expected a WebSocket\n")


def test_another_method_than_get_is_refused() -> None:
    assert asyncio.run(ask(application(), "/", method="POST"))[0] == 405


def test_a_session_that_may_not_begin_is_refused_with_the_service_s_own_answer_if_the_server_can_send_it() -> None:
    async def main() -> None:
        for extensions in ({"websocket.http.response": {}}, {}, None):
            client = AsgiClient()
            await client.run(application(nobody, unavailable("not yet")), extensions=extensions)
            assert client.accepted is None
            if extensions:
                start, body = client.refused
                assert (start["status"], body["body"]) == (503, b"not yet\n")
            else:
                (closed,) = client.refused
                assert closed == {"type": "websocket.close", "code": 1008, "reason": "not yet"}

    asyncio.run(main())


def test_a_client_of_another_protocol_is_refused() -> None:
    async def main() -> None:
        client = AsgiClient()
        await client.run(application(), subprotocols=["chat"], extensions={"websocket.http.response": {}})
        assert client.refused[0]["status"] == 400

    asyncio.run(main())


def test_the_peer_is_whom_a_trusted_proxy_names() -> None:
    peers = []

    async def remember(carrier: Carrier) -> None:
        peers.append(carrier.peer)

    async def main() -> None:
        headers = [(b"X-Forwarded-For", b"203.0.113.9")]
        for front in (Front(), Front(proxies=read_networks(["192.0.2.0/24"]))):
            await AsgiClient().run(application(remember, front=front), headers=headers)
        await AsgiClient().run(application(remember), client=None)

    asyncio.run(main())
    assert peers == ["192.0.2.1:7", "203.0.113.9 via 192.0.2.1:7", "a peer without address"]


def test_a_text_message_is_refused_and_a_departure_ends_the_session_for_good() -> None:
    async def serve(carrier: Carrier) -> None:
        with pytest.raises(RemoteProtocolError, match="text"):
            await carrier.recv()
        assert (await carrier.recv())[0] == b"x"
        for call in (carrier.recv, carrier.recv, lambda: carrier.send(b"late")):
            with pytest.raises(CarrierClosed):
                await call()  # type: ignore[operator]
        served.append(True)

    async def main() -> None:
        client = AsgiClient()
        client.events.put_nowait({"type": "websocket.receive", "text": "x"})
        client.say_bytes(b"x")
        client.leave()
        await client.run(application(serve))

    served: list[bool] = []
    asyncio.run(main())
    assert served


def test_a_message_that_is_too_long_ends_its_session() -> None:
    async def main() -> None:
        client = AsgiClient()
        client.say_bytes(bytes(MOST + 1))
        await client.run(application(_until_closed))
        assert client.closed is not None and client.closed[0] == 1009

    asyncio.run(main())


async def _until_closed(carrier: Carrier) -> None:
    with pytest.raises(CarrierClosed):
        await carrier.recv()


def test_what_was_being_sent_when_the_call_was_cancelled_is_sent_and_before_what_follows() -> None:
    sent: list[Any] = []
    may_send = asyncio.Event()

    async def slow(event: Any) -> None:
        await may_send.wait()
        sent.append(event.get("bytes") or event["code"])

    async def main() -> None:
        carrier = AsgiCarrier(asyncio.Queue[Any]().get, slow, "", MOST, lambda: 0.0)
        sending = asyncio.create_task(carrier.send(b"first"))
        await asyncio.sleep(0)
        sending.cancel()
        await asyncio.wait([sending])
        second = asyncio.create_task(carrier.send(b"second"))
        await asyncio.sleep(0)
        may_send.set()
        await second
        await carrier.close(1001, "bye")
        assert sent == [b"first", b"second", 1001]

    asyncio.run(main())


def test_a_peer_that_takes_nothing_is_left_to_the_server_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    from spinn_server.carriers import asgi

    monkeypatch.setattr(asgi, "CLOSING_S", 0.01)

    async def never(event: Any) -> None:
        await asyncio.Event().wait()

    async def main() -> None:
        before = asyncio.all_tasks()
        carrier = AsgiCarrier(asyncio.Queue[Any]().get, never, "", MOST, lambda: 0.0)
        await carrier.close(1001, "bye")
        with pytest.raises(CarrierClosed):
            await carrier.send(b"x")
        await asyncio.sleep(0)
        assert asyncio.all_tasks() == before

    asyncio.run(main())


@pytest.mark.parametrize("error", [OSError("gone"), RuntimeError("after close")])
def test_whatever_an_asgi_server_raises_when_the_peer_is_gone_is_the_end_of_the_session(error: Exception) -> None:
    async def failing(event: Any) -> None:
        raise error

    async def main() -> None:
        carrier = AsgiCarrier(asyncio.Queue[Any]().get, failing, "", MOST, lambda: 0.0)
        with pytest.raises(CarrierClosed, match=str(error)):
            await carrier.send(b"x")

    asyncio.run(main())


def test_the_server_runs_as_long_as_the_asgi_server_and_a_start_that_fails_is_told() -> None:
    said: list[str] = []

    @asynccontextmanager
    async def life() -> AsyncIterator[None]:
        said.append("begun")
        yield
        said.append("ended")

    @asynccontextmanager
    async def failing() -> AsyncIterator[None]:
        raise OSError("no engine")
        yield

    async def run(which: Callable[[], Any]) -> list[Any]:
        events = iter([{"type": "lifespan.startup"}, {"type": "lifespan.shutdown"}])
        told: list[Any] = []

        async def receive() -> Any:
            return next(events)

        async def send(event: Any) -> None:
            told.append(event)
            said.append(event["type"])

        await application(life=which)({"type": "lifespan"}, receive, send)
        return told

    asyncio.run(run(life))
    assert said == ["begun", "lifespan.startup.complete", "ended", "lifespan.shutdown.complete"]
    (failed,) = asyncio.run(run(failing))
    assert failed == {"type": "lifespan.startup.failed", "message": "OSError: no engine"}


def test_an_unknown_scope_is_said() -> None:
    with pytest.raises(ValueError, match="scope is 'ftp'"):
        asyncio.run(application()(scope_of("ftp"), nothing, nothing))


async def nothing(*args: Any) -> Any:
    return None


def test_behind_uvicorn_messages_go_both_ways_and_a_close_says_why() -> None:
    async def echo(carrier: Carrier) -> None:
        await carrier.send((await carrier.recv())[0])
        await carrier.close(1001, "the end")

    async def main() -> None:
        metrics = Metrics()
        async with uvicorn_around(Session(echo), metrics, Front(), MOST) as address:
            websocket = await dial(address, None, 1000)
            await websocket.send(b"x" * MOST)
            assert await websocket.recv() == b"x" * MOST
            with pytest.raises(ConnectionClosed) as closed:
                await websocket.recv()
            assert closed.value.rcvd is not None
            assert (closed.value.rcvd.code, closed.value.rcvd.reason) == (1001, "the end")
            with pytest.raises(InvalidStatus, match="400"):
                await connect(address, proxy=None)
        assert metrics.connections._value.get() == 0

    asyncio.run(main())


def test_behind_uvicorn_an_oversized_message_is_refused_before_it_is_held() -> None:
    async def main() -> None:
        async with uvicorn_around(Session(_until_closed), Metrics(), Front(), MOST) as address:
            websocket = await dial(address, None, 1000)
            with pytest.raises(ConnectionClosed) as closed:
                await websocket.send(bytes(50 * MOST))
                await websocket.recv()
            assert closed.value.rcvd is None or closed.value.rcvd.code == 1009

    asyncio.run(main())
