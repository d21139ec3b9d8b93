"""What a session needs of whatever moves its messages, and what a carrier needs of the server."""

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
            CarrierClosed: there will be none. RemoteProtocolError: the peer sent what is no message of bytes.
        """

    async def send(self, data: bytes) -> None:
        """Hand a message over; returns once there is room for another. If it is cancelled, the message is still sent.

        Raises:
            CarrierClosed: there is nobody to send it to.
        """

    async def close(self, code: int, reason: str) -> None:
        """Tell the peer, and end; aborts if it does not answer soon. Never raises.

        Args:
            code: of RFC 6455, section 7.4.1. reason: at most 123 bytes in UTF-8.
        """

    def abort(self) -> None:
        """End at once; what is on its way may be lost."""


class Service(Protocol):
    """Takes what comes in at a port."""

    def answer(self, path: str) -> HttpAnswer | None:
        """What to answer to plain HTTP; None: a session may begin. Called in a thread, unless it is about a session."""

    async def serve(self, carrier: Carrier) -> None:
        """Serve one session until either end closes. Never raises for what the peer did."""
