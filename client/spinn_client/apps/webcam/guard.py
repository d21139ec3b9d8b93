"""Who may use the page: programs on this machine, or visitors with the token. The page starts processes."""

from __future__ import annotations

import hmac
from http.cookies import CookieError, SimpleCookie
from urllib.parse import parse_qs, urlsplit

from starlette.responses import PlainTextResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Receive, Scope, Send

LOOPBACK = ("127.0.0.1", "localhost", "::1")

ASKS = (
    "This page starts processes, so it asks for its token: open the address that `spinn webcam` has printed, "
    "which ends in ?token=...\n"
)


class Guard:
    """In front of the whole application.

    Without a token, requests must name this machine by a loopback address; any other host name is refused, since it may
    be a stranger's that points here. In both cases, a page of another origin cannot open a WebSocket or post anything.
    """

    def __init__(self, app: ASGIApp, token: str | None) -> None:
        self.app, self._token = app, token

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
            return
        refusal = self._refusal(scope)
        if refusal is None:
            await self.app(scope, receive, send)
        elif scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008})
        else:
            await refusal(scope, receive, send)

    def _refusal(self, scope: Scope) -> Response | None:
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        host = headers.get("host", "")
        origin = headers.get("origin")
        if origin is not None and urlsplit(origin).netloc != host and not _reads(scope):
            return PlainTextResponse("another page may not do that\n", 403)
        if self._token is None:
            if _name(host) in LOOPBACK:
                return None
            return PlainTextResponse(f"this page is for this machine only: open it at one of {LOOPBACK}\n", 403)
        cookie = f"spinn_webcam_{scope['server'][1]}"
        if self._is_token(_cookie(headers.get("cookie", ""), cookie)):
            return None
        given = parse_qs(scope["query_string"].decode("latin-1")).get("token", [""])[0]
        if not self._is_token(given):
            return PlainTextResponse(ASKS, 401)
        response = RedirectResponse(scope["path"], 303)  # so that the token stands in no history
        response.set_cookie(cookie, given, httponly=True, samesite="strict", secure=scope["scheme"] in ("https", "wss"))
        return response

    def _is_token(self, given: str) -> bool:
        assert self._token is not None
        return hmac.compare_digest(given.encode(), self._token.encode())


def _reads(scope: Scope) -> bool:
    return scope["type"] == "http" and scope["method"] in ("GET", "HEAD")


def _name(host: str) -> str | None:
    try:
        return urlsplit(f"//{host}").hostname
    except ValueError:
        return None


def _cookie(header: str, name: str) -> str:
    try:
        morsel = SimpleCookie(header).get(name)
    except CookieError:
        return ""
    return morsel.value if morsel is not None else ""
