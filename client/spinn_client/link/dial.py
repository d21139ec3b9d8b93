"""Opens the WebSocket to a server, and says in a line why it could not."""

from __future__ import annotations

import ssl
from http import HTTPStatus
from pathlib import Path
from urllib.parse import urlsplit

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import (
    ConnectionClosed,
    InvalidHandshake,
    InvalidStatus,
    InvalidURI,
    NegotiationError,
    ProxyError,
)
from websockets.typing import Subprotocol

from spinn_stream.errors import ConfigError, ServerUnreachable
from spinn_stream.wire import SUBPROTOCOL

CONNECT_TIMEOUT_S = 5.0

LONGEST_SHOWN = 200
"""Characters of a foreign server's explanation."""

KEEPALIVE_S = 2.0
KEEPALIVE_TIMEOUT_S = 6.0
"""Time between two pings of a server, and silence after which it counts as gone."""


async def dial(url: str, tls_ca: Path | None, max_message_bytes: int) -> ClientConnection:
    """A WebSocket that speaks our subprotocol.

    Args:
        url: ws://host:port or wss://host:port. tls_ca: certificate authority to trust besides the system's.
        max_message_bytes: a longer message ends the connection.

    Raises:
        ConfigError: the URL is none, or the certificate authority cannot be used.
        ServerUnreachable: nobody answers, or somebody else does.
    """
    try:
        websocket = await connect(
            url,
            subprotocols=[Subprotocol(SUBPROTOCOL)],
            compression=None,
            max_size=max_message_bytes,
            ssl=_tls(url, tls_ca),
            proxy=None,
            open_timeout=CONNECT_TIMEOUT_S,
            close_timeout=1,
            ping_interval=KEEPALIVE_S,
            ping_timeout=KEEPALIVE_TIMEOUT_S,
        )
    except InvalidURI as error:
        raise ConfigError(f"{url!r} is not a server's address, expected ws://HOST:PORT or wss://HOST:PORT") from error
    except TimeoutError as error:
        raise ServerUnreachable(f"{url} did not answer within {CONNECT_TIMEOUT_S:.0f} s") from error
    except NegotiationError as error:
        raise ServerUnreachable(f"{url} answers but does not speak {SUBPROTOCOL}; is it a spinn server?") from error
    except InvalidStatus as error:
        raise ServerUnreachable(f"{url} {_said(error, url)}") from error
    except (InvalidHandshake, ProxyError, EOFError) as error:
        raise ServerUnreachable(f"{url} answers but is not a spinn server: {error}") from error
    except (OSError, ConnectionClosed, UnicodeError) as error:
        raise ServerUnreachable(f"cannot reach {url}: {error}; is `spinn serve` running there?") from error
    return websocket


def _said(error: InvalidStatus, url: str) -> str:
    """What a server means that answers with an HTTP status instead of a session."""
    status, body = error.response.status_code, (error.response.body or b"").decode(errors="replace").strip()
    if status == HTTPStatus.NOT_FOUND:
        path = urlsplit(url).path or "/"
        return f"answers 404: there is nothing at the path {path}; is a proxy's path prefix missing from the address?"
    if status < HTTPStatus.BAD_REQUEST:
        return f"answers {status} but is not a spinn server"
    return f"answers {status}: {body[:LONGEST_SHOWN] or 'no reason given'}"


def _tls(url: str, tls_ca: Path | None) -> ssl.SSLContext | None:
    if not url.lower().startswith("wss:"):
        return None
    context = ssl.create_default_context()
    if tls_ca is not None:
        try:
            context.load_verify_locations(tls_ca)
        except (OSError, ssl.SSLError) as error:
            raise ConfigError(f"cannot use {tls_ca} as certificate authority: {error}") from error
    return context
