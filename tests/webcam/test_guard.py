"""Who gets to the page, which starts processes."""

from __future__ import annotations

import pytest
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route, WebSocketRoute
from starlette.testclient import TestClient
from starlette.websockets import WebSocket, WebSocketDisconnect

from spinn_client.apps.webcam.app import token_for
from spinn_client.apps.webcam.guard import Guard


async def page(request: object) -> PlainTextResponse:
    return PlainTextResponse("page")


async def socket(socket: WebSocket) -> None:
    await socket.accept()
    await socket.send_text("in")
    await socket.close()


def client(token: str | None, address: str = "http://localhost:8080") -> TestClient:
    app = Starlette(routes=[Route("/", page, methods=["GET", "POST"]), WebSocketRoute("/socket", socket)])
    return TestClient(Guard(app, token), base_url=address, follow_redirects=False)


@pytest.mark.parametrize("address", ["http://localhost:8080", "http://127.0.0.1:8080", "http://[::1]:8080"])
def test_without_a_token_this_machine_gets_in(address: str) -> None:
    assert client(None, address).get("/").text == "page"


@pytest.mark.parametrize(
    "address", ["http://camera.example:8080", "http://127.0.0.1.example", "http://192.168.1.7:8080"]
)
def test_without_a_token_other_names_do_not(address: str) -> None:
    assert client(None, address).get("/").status_code == 403


def test_another_page_may_neither_post_nor_open_a_websocket() -> None:
    asking = client(None)
    assert asking.post("/", headers={"origin": "http://evil.example"}).status_code == 403
    with (
        pytest.raises(WebSocketDisconnect),
        asking.websocket_connect("/socket", headers={"origin": "http://evil.example", "host": "localhost:8080"}),
    ):
        pass
    with asking.websocket_connect(
        "/socket", headers={"origin": "http://localhost:8080", "host": "localhost:8080"}
    ) as own:
        assert own.receive_text() == "in"


def test_the_token_is_asked_for_and_becomes_a_cookie() -> None:
    asking = client("secret", "http://camera.example:8080")
    assert asking.get("/").status_code == 401
    assert asking.get("/?token=wrong").status_code == 401
    with pytest.raises(WebSocketDisconnect), asking.websocket_connect("/socket"):
        pass
    let_in = asking.get("/?token=secret")
    assert (let_in.status_code, let_in.headers["location"]) == (303, "/")
    assert "HttpOnly" in let_in.headers["set-cookie"] and "SameSite=strict" in let_in.headers["set-cookie"]
    asking.cookies.update(let_in.cookies)
    assert asking.get("/").text == "page"


def test_a_page_that_is_open_to_the_network_has_a_token() -> None:
    assert token_for("127.0.0.1", None) is None
    assert token_for("127.0.0.1", "given") == "given"
    made = {token_for("0.0.0.0", None) for _ in range(2)}
    assert len(made) == 2 and all(token is not None and len(token) >= 20 for token in made)
