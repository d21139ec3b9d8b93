"""Opens the WebSocket to a server, and says in a line why it could not."""

from __future__ import annotations

import asyncio
import socket
import ssl
from http import HTTPStatus
from pathlib import Path

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import (
    ConnectionClosed,
    InvalidHandshake,
    InvalidMessage,
    InvalidStatus,
    InvalidURI,
    NegotiationError,
)
from websockets.typing import Subprotocol
from websockets.uri import WebSocketURI, parse_uri

from spinn_stream.errors import ConfigError, ServerUnreachable
from spinn_stream.wire import SUBPROTOCOL

from .tcp import connect_tcp

CONNECT_TIMEOUT_S = 5.0
"""For all that opens a connection: name, TCP, TLS, upgrade."""

LONGEST_SHOWN = 200
"""Characters of a foreign server's explanation."""

CERTIFICATE = {
    9: "set this machine's clock, or the certificate begins later",
    10: "renew it, or set this machine's clock",
    18: "trust it with --tls-ca FILE",
    19: "trust its authority with --tls-ca FILE",
    20: "trust its authority with --tls-ca FILE",
    62: "use a name that the certificate has",
    64: "use a name or address that the certificate has",
}
"""OpenSSL's X509_V_ERR_... -> what to do: not yet valid, expired, self-signed, in the chain, unknown, names."""


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
        address = parse_uri(url)
    except (InvalidURI, ValueError) as error:
        raise ConfigError(f"{url!r} is not a server's address, expected ws://HOST:PORT or wss://HOST:PORT") from error
    tls = _tls(tls_ca) if address.secure else None
    try:
        async with asyncio.timeout(CONNECT_TIMEOUT_S):
            sock = await connect_tcp(address.host, address.port)
            try:
                return await connect(
                    url,
                    subprotocols=[Subprotocol(SUBPROTOCOL)],
                    compression=None,
                    max_size=max_message_bytes,
                    ssl=tls,
                    proxy=None,
                    open_timeout=None,
                    close_timeout=1,
                    ping_interval=None,  # ours are in `connection`
                    sock=sock,
                )
            except BaseException:
                sock.close()
                raise
    except (OSError, EOFError, UnicodeError, ConnectionClosed, InvalidHandshake, InvalidMessage) as error:
        raise ServerUnreachable(f"cannot reach {url}: it {why_not(error, address)}") from error


def why_not(error: Exception, address: WebSocketURI) -> str:
    """What kept us from a session, and what to do about that: goes on where "it" ends."""
    match error:
        case TimeoutError():
            said = "does not answer; is the machine on, and does a firewall let its port through?"
        case NegotiationError():
            said = f"answers but does not speak {SUBPROTOCOL}; is it a spinn server?"
        case InvalidStatus():
            said = _said(error, address.path)
        case ssl.SSLCertVerificationError():
            advice = CERTIFICATE.get(error.verify_code, "look at the server's --tls-cert")
            said = f"has a certificate that is not accepted: {error.verify_message}; {advice}"
        case socket.gaierror():
            said = f"has a name that is not known here: {error.strerror}; is it spelt right, is the network there?"
        case ConnectionRefusedError():
            said = "refuses connections: nothing listens at that port; is `spinn serve` running there?"
        case ssl.SSLError() | ConnectionResetError() | ConnectionClosed() | EOFError() | InvalidMessage():
            other = "ws:// and not wss://" if address.secure else "wss:// and not ws://"
            said = f"answers but is not a spinn server ({str(error) or type(error).__name__}); is it {other}?"
        case InvalidHandshake():
            said = f"answers but is not a spinn server: {error}"
        case _:
            said = f"cannot be reached: {str(error) or type(error).__name__}"
    return said


def _said(error: InvalidStatus, path: str) -> str:
    """What a server means that answers with an HTTP status instead of a session."""
    status, body = error.response.status_code, (error.response.body or b"").decode(errors="replace").strip()
    if status == HTTPStatus.NOT_FOUND:
        return f"answers 404: there is nothing at the path {path}; is a proxy's path prefix missing from the address?"
    if status < HTTPStatus.BAD_REQUEST:
        return f"answers {status} but is not a spinn server"
    return f"answers {status}: {body[:LONGEST_SHOWN] or 'no reason given'}"


def _tls(tls_ca: Path | None) -> ssl.SSLContext:
    context = ssl.create_default_context()
    if tls_ca is not None:
        try:
            context.load_verify_locations(tls_ca)
        except (OSError, ssl.SSLError) as error:
            raise ConfigError(f"cannot use {tls_ca} as certificate authority: {error}") from error
    return context
