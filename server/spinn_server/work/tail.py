"""What sessions need of whatever finishes their requests: an engine here, or several elsewhere."""

from __future__ import annotations

from typing import Protocol

from spinn_stream.bundle import Bundle
from spinn_stream.profile import Profile
from spinn_stream.wire import RejectReason

from .request import Owner, Request


class Tail(Protocol):
    """Finishes the requests of one bundle. A request is answered or refused exactly once, unless its owner leaves
    before.

    profile: of one engine, for the clients; None: times are not known.
    """

    @property
    def bundle(self) -> Bundle: ...

    @property
    def profile(self) -> Profile | None: ...

    def join(self, owner: Owner) -> None:
        """A client joins and may send requests."""

    def submit(self, request: Request) -> None:
        """Take a request of a client that has joined; its owner is told the outcome now or later."""

    def cancel(self, request: Request) -> None:
        """The client no longer wants this request: it is refused as `cancelled` now."""

    def forget(self, owner: Owner) -> None:
        """A client is gone: its requests are neither run nor answered any more."""

    def stop_taking(self, reason: RejectReason, detail: str) -> None:
        """Refuse new requests from now on; open ones are still run."""

    def refuse_all(self, reason: RejectReason, detail: str) -> None:
        """Refuse all open requests."""

    async def idle(self) -> None:
        """Until no request is open."""

    def load(self, now: float) -> tuple[float, float]:
        """(queueing delay in ms, load factor) of the last second."""

    def delay_ms(self) -> float:
        """How long a new request would wait, in ms."""

    async def run(self) -> None:
        """Serve until cancelled; however it ends, no request stays open.

        Raises:
            EngineError: nothing can be run any more.
        """
