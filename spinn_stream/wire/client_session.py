"""The client's end of one spinn.v1 session: bytes in, events out. No socket, no clock."""

from __future__ import annotations

import enum
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from spinn_stream.bundle import Bundle
from spinn_stream.errors import LocalProtocolError, RemoteProtocolError, ServerRefused
from spinn_stream.profile import Profile

from .groups import pack_groups
from .messages import (
    MAX_MS,
    Cancel,
    Hello,
    Infer,
    Load,
    Message,
    Reject,
    Result,
    ServerProfile,
    Welcome,
    decode,
    encode,
)
from .profile import read_profile


class State(enum.Enum):
    """A session's life: HELLO_SENT -> OPEN -> CLOSED, and CLOSED from anywhere on an error."""

    HELLO_SENT = enum.auto()
    OPEN = enum.auto()
    CLOSED = enum.auto()


@dataclass(frozen=True)
class Opened:
    """The server accepted us; requests may be sent."""

    welcome: Welcome


@dataclass(frozen=True)
class ProfileReceived:
    """The server's profile has come."""

    profile: Profile


Event = Opened | ProfileReceived | Load | Result | Reject


class ClientSession:
    """Keeps count of requests and answers, so that no answer is taken for another request's.

    A request counts as in flight until the server acknowledges it by a result or a reject, not until its deadline. So a
    stalled link is not filled any further.

    Args:
        group_of: for each class the index of its group, if answers shall name groups.
    """

    def __init__(
        self, bundle: Bundle, codecs: Mapping[str, int], *, max_in_flight: int, group_of: Sequence[int] | None = None
    ) -> None:
        self._bundle = bundle
        self._groups = pack_groups(group_of)
        self._names = len(bundle.labels) if group_of is None else max(group_of) + 1
        self._codecs = dict(codecs)
        self._max_in_flight = max_in_flight
        self._max_payload_bytes = 0
        self._in_flight: set[int] = set()
        self.state = State.HELLO_SENT

    def hello(self, *, token: str | None, client: str) -> bytes:
        """The first message of the session."""
        return encode(Hello(self._bundle.hash, self._codecs, token, client, self._groups))

    @property
    def in_flight(self) -> int:
        return len(self._in_flight)

    @property
    def ready(self) -> bool:
        """Whether one more request may be sent now."""
        return self.state is State.OPEN and len(self._in_flight) < self._max_in_flight

    def takes(self, codec: str, payload_bytes: int) -> bool:
        """Whether the server agreed to such a payload."""
        return codec in self._codecs and payload_bytes <= self._max_payload_bytes

    def infer(
        self,
        request: int,
        split: int,
        codec: str,
        threshold: float | None,
        budget_ms: float,
        payload: bytes,
        *,
        may_shorten: bool = False,
    ) -> bytes:
        """The bytes of a request. It counts as in flight from now on.

        Args:
            may_shorten: an overloaded server may answer at an earlier exit instead of refusing.

        Raises:
            LocalProtocolError: not `ready`, the id is in flight already, or the server does not take this payload.
        """
        if not self.ready:
            raise LocalProtocolError(f"{self.state.name} with {self.in_flight} in flight: no request may be sent")
        if request in self._in_flight:
            raise LocalProtocolError(f"request {request} is in flight already")
        if not self.takes(codec, len(payload)):
            raise LocalProtocolError(
                f"{len(payload)} bytes of {codec}: the server takes {self._max_payload_bytes} of {sorted(self._codecs)}"
            )
        self._in_flight.add(request)
        budget = math.floor(min(max(budget_ms, 0.0), MAX_MS))  # whole ms: fewer bytes
        return encode(Infer(request, split, codec, threshold, float(budget), payload, may_shorten))

    def cancel(self, request: int) -> bytes | None:
        """The bytes that take a request back; None: the server has answered it already."""
        return encode(Cancel(request)) if self.state is State.OPEN and request in self._in_flight else None

    def give_up(self, request: int) -> None:
        """It is not in flight any more: an answer that still comes is nobody's."""
        self._in_flight.discard(request)

    def receive(self, data: bytes) -> Event | None:
        """The event of one message of the server; None: it answers a request that is not in flight.

        Raises:
            ServerRefused: the server ends the session and says why.
            RemoteProtocolError: the server broke the rules; close.
        """
        if self.state is State.CLOSED:
            raise LocalProtocolError("the session is closed")
        try:
            message = decode(data)
            if isinstance(message, Reject) and message.id is None:
                raise ServerRefused(f"the server refused the session: {message.reason}: {message.detail}")
            if self.state is State.HELLO_SENT:
                if not isinstance(message, Welcome):
                    raise RemoteProtocolError("bad_message", f"got {type(message).__name__.lower()}, expected welcome")
                return self._welcome(message)
            return self._while_open(message)
        except (ServerRefused, RemoteProtocolError):
            self.state = State.CLOSED
            raise

    def close(self) -> list[int]:
        """End the session. Gives the requests that will never be answered."""
        self.state = State.CLOSED
        lost = sorted(self._in_flight)
        self._in_flight.clear()
        return lost

    def _while_open(self, message: Message) -> Event | None:
        if isinstance(message, Load):
            return message
        if isinstance(message, ServerProfile):
            return ProfileReceived(read_profile(message, self._bundle))
        if isinstance(message, Result):
            if message.exit >= len(self._bundle.exits) or any(k >= self._names for k, _ in message.top):
                raise RemoteProtocolError("bad_message", "a result names an exit or class that the bundle lacks")
        elif not isinstance(message, Reject):
            raise RemoteProtocolError("bad_message", f"a server does not send {type(message).__name__.lower()} here")
        if message.id not in self._in_flight:
            return None
        self._in_flight.discard(message.id)
        return message

    def _welcome(self, welcome: Welcome) -> Opened:
        if welcome.bundle != self._bundle.hash:
            raise ServerRefused(
                f"bundle_mismatch: the server has {welcome.bundle[:12]}, the client "
                f"{self._bundle.name} {self._bundle.hash[:12]}"
            )
        self._codecs = {name: v for name, v in self._codecs.items() if welcome.codecs.get(name) == v}
        self._max_in_flight = min(self._max_in_flight, welcome.max_in_flight)
        self._max_payload_bytes = welcome.max_payload_bytes
        self.state = State.OPEN
        return Opened(welcome)
