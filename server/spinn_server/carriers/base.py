"""What a session needs of its carrier, and what a carrier needs of the server."""

from __future__ import annotations

from typing import Protocol

from spinn_server.admin.routes import HttpAnswer


class CarrierClosed(Exception):
    """Nothing more comes or goes: the peer closed, or is gone."""


class Carrier(Protocol):
    """Moves the messages of one session, whole and in their order.

    `recv` and `send` are called by one task each.
    """

    @property
    def peer(self) -> str:
        """Who is at the other end, for the log."""

    async def recv(self) -> tuple[bytes, float]:
        """The next message, and when it arrived, in seconds on the server's clock.

        Raises:
            CarrierClosed: there will be none. RemoteProtocolError: the peer sent something else than a binary message.
        """

    async def send(self, data: bytes) -> None:
        """Send a message. Returns as soon as there is room for another one. If the call is cancelled, the message is
        still sent.

        Raises:
            CarrierClosed: the peer is gone.
        """

    async def close(self, code: int, reason: str) -> None:
        """Say good-bye and close; abort if the peer does not answer soon. Never raises.

        Args:
            code: of RFC 6455, section 7.4.1. reason: at most 123 bytes in UTF-8.
        """

    def abort(self) -> None:
        """End at once; what is on its way may be lost."""


class Service(Protocol):
    """Handles requests and sessions of a port."""

    def answer(self, path: str) -> HttpAnswer | None:
        """The answer to plain HTTP; None: a session may begin. Called in a thread, unless the path is that of
        sessions."""

    async def serve(self, carrier: Carrier) -> None:
        """Serve one session until either end closes. Never raises because of the peer."""
