"""The server's end of one spinn.v1 session: bytes in, decisions out. No socket, no clock."""

from __future__ import annotations

import enum
import hmac
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache

import numpy as np
import numpy.typing as npt

from spinn_stream.bundle import Bundle
from spinn_stream.codec import SUPPORTED, CodecSetting, max_payload_bytes
from spinn_stream.errors import CodecError, LocalProtocolError, RemoteProtocolError

from .groups import read_groups
from .messages import (
    MAX_FACTOR,
    MAX_MS,
    Cancel,
    Hello,
    Infer,
    Load,
    Reject,
    RejectReason,
    Result,
    Welcome,
    decode,
    encode,
)

LOAD_EVERY_S = 0.25
LOAD_CHANGED_S = 0.05
"""Time between two load messages; it is shorter if a figure changed by more than these:"""
CHANGED_QUEUE_MS = 5.0
CHANGED_FACTOR = 0.1  # of the factor


@cache
def _largest_payloads(bundle: Bundle) -> tuple[int, ...]:
    """In bytes, for each split."""
    return tuple(max_payload_bytes(bundle, split) for split in range(bundle.last))


class State(enum.Enum):
    """A session's life: AWAIT_HELLO -> OPEN -> CLOSED, and CLOSED from anywhere on an error."""

    AWAIT_HELLO = enum.auto()
    OPEN = enum.auto()
    CLOSED = enum.auto()


@dataclass(frozen=True)
class SessionLimits:
    """What the server grants every session."""

    max_in_flight: int = 32  # requests without an answer; at 200 ms round trip and 30 frames/s, 6 are under way

    def __post_init__(self) -> None:
        if not 1 <= self.max_in_flight <= 10_000:
            raise ValueError(f"max_in_flight is {self.max_in_flight}, expected 1 to 10000")


@dataclass(frozen=True)
class Reply:
    """Send these messages, in this order."""

    data: tuple[bytes, ...]


@dataclass(frozen=True)
class Refused:
    """A request that does not fit the bundle or the limits. data: the refusal, to be sent."""

    request: Infer
    reason: RejectReason
    data: bytes


Event = Reply | Infer | Refused | Cancel
"""Infer: admitted; answer it once, with `result` or `reject`. Cancel: of a request in flight."""


class ServerSession:
    """Checks one client's messages, and keeps count of its requests.

    Every admitted request is answered exactly once, by `result` or `reject`, whichever is called first.

    Args:
        offered: bundles that clients may ask for, each with the encoded message of the server's profile, which follows
            the welcome; None: there is none.
    """

    def __init__(
        self,
        offered: Mapping[Bundle, bytes | None],
        limits: SessionLimits,
        *,
        token: str | None,
        server: str,
        now: float,
    ) -> None:
        self._offered = offered
        self._bundle = next(iter(offered))  # until the client has said which
        self._limits = limits
        self._codecs = dict(SUPPORTED)
        self._token = token
        self._server = server
        self._began = now
        self._told: tuple[Load, float] | None = None  # the last load, and when
        self._arrived: dict[int, float] = {}
        self.group_of: npt.NDArray[np.intp] | None = None  # what answers are about; None: classes
        self.state = State.AWAIT_HELLO

    @property
    def in_flight(self) -> int:
        return len(self._arrived)

    @property
    def bundle(self) -> Bundle:
        """The bundle that the client asked for; available once the session is open."""
        return self._bundle

    def receive(self, data: bytes, now: float) -> Event | None:
        """The decisions that follow from one message of the client.

        Args:
            now: seconds on any steady clock, the moment the message arrived.

        Raises:
            RemoteProtocolError: the session is over; send `farewell` with its reason and detail, and close.
        """
        if self.state is State.CLOSED:
            raise LocalProtocolError("the session is closed")
        try:
            message = decode(data)
            if self.state is State.AWAIT_HELLO:
                if not isinstance(message, Hello):
                    raise RemoteProtocolError(
                        "bad_message", f"got {type(message).__name__.lower()}, expected hello first"
                    )
                return self._hello(message)
            if isinstance(message, Infer):
                return self._infer(message, now)
            if isinstance(message, Cancel):
                return message if message.id in self._arrived else None  # answered meanwhile: nothing to do
            raise RemoteProtocolError("bad_message", f"a client does not send {type(message).__name__.lower()} here")
        except RemoteProtocolError:
            self.state = State.CLOSED
            raise

    def result(
        self, request: int, exit_index: int, top: tuple[tuple[int, float], ...], now: float, *, shortened: bool = False
    ) -> bytes | None:
        """The bytes of an answer; None: the request was answered already."""
        arrived = self._arrived.pop(request, None)
        if arrived is None:
            return None
        return encode(Result(request, exit_index, top, self._ms(arrived), self._ms(now), shortened))

    def reject(self, request: int, reason: RejectReason, detail: str, queue_ms: float = 0.0) -> bytes | None:
        """The bytes of a refusal; None: the request was answered already."""
        if self._arrived.pop(request, None) is None:
            return None
        return encode(Reject(request, reason, detail[:1000], min(max(0.0, queue_ms), MAX_MS)))

    def load(self, queue_ms: float, factor: float, now: float, *, unasked: bool = False) -> bytes | None:
        """The bytes that tell the client how busy the server is; None: they are not due.

        Args:
            unasked: it goes without an answer, so it is due only if a figure has changed.
        """
        if self.state is not State.OPEN or (unasked and self._told is None):
            return None
        load = Load(min(max(0.0, queue_ms), MAX_MS), min(max(0.0, factor), MAX_FACTOR))
        if self._told is not None:
            last, at = self._told
            changed = (
                abs(load.queue_ms - last.queue_ms) > CHANGED_QUEUE_MS
                or abs(load.factor - last.factor) > CHANGED_FACTOR * last.factor
            )
            if (unasked and not changed) or now - at < (LOAD_CHANGED_S if changed else LOAD_EVERY_S):
                return None
        self._told = load, now
        return encode(load)

    def farewell(self, reason: str, detail: str) -> bytes:
        """The bytes that tell the client why its session ends. reason: one of `RejectReason`."""
        self.state = State.CLOSED
        return encode(Reject(None, reason, detail[:1000]))  # type: ignore[arg-type]

    def _hello(self, hello: Hello) -> Reply:
        if self._token is not None and not hmac.compare_digest(
            (hello.token or "").encode("utf-8", "surrogatepass"), self._token.encode()
        ):
            raise RemoteProtocolError("unauthorised", "the token is wrong or missing; pass it with --token-file")
        found = next((bundle for bundle in self._offered if bundle.hash == hello.bundle), None)
        if found is None:
            ours = " and ".join(f"{bundle.name} {bundle.hash[:12]}" for bundle in self._offered)
            raise RemoteProtocolError(
                "bundle_mismatch",
                f"the server has bundle {ours}, the client has {hello.bundle[:12]}; give both the same --bundle",
            )
        self._bundle = found
        common = {name: v for name, v in self._codecs.items() if hello.codecs.get(name) == v}
        if not common:
            raise RemoteProtocolError(
                "codec_mismatch", f"the server speaks {self._codecs}, the client {hello.codecs}"[:1000]
            )
        self.group_of = read_groups(hello.payload, self._bundle)
        self._codecs = common
        self.state = State.OPEN
        largest = max(_largest_payloads(self._bundle))
        welcome = encode(Welcome(self._bundle.hash, common, self._limits.max_in_flight, largest, self._server))
        profile = self._offered[self._bundle]
        return Reply((welcome,) if profile is None else (welcome, profile))

    def _infer(self, infer: Infer, now: float) -> Event:
        if infer.id in self._arrived:
            raise RemoteProtocolError("bad_message", f"request {infer.id} is in flight already")
        if len(self._arrived) >= self._limits.max_in_flight:
            return self._refuse(infer, "overloaded", f"{self._limits.max_in_flight} are in flight already")
        if infer.split >= self._bundle.last:
            return self._refuse(infer, "bad_request", f"split {infer.split}, expected 0 to {self._bundle.last - 1}")
        if infer.codec not in self._codecs:
            return self._refuse(infer, "bad_request", f"codec {infer.codec!r}, expected one of {sorted(self._codecs)}")
        try:
            CodecSetting.any_of(infer.codec).check_split(infer.split)
        except CodecError as error:
            return self._refuse(infer, "bad_request", str(error))
        most = _largest_payloads(self._bundle)[infer.split]
        if not 0 < len(infer.payload) <= most:
            return self._refuse(
                infer,
                "bad_request",
                f"a payload of {len(infer.payload)} bytes at split {infer.split}, expected 1 to {most}",
            )
        self._arrived[infer.id] = now
        return infer

    def _refuse(self, infer: Infer, reason: RejectReason, detail: str) -> Refused:
        return Refused(infer, reason, encode(Reject(infer.id, reason, detail[:1000])))

    def _ms(self, instant: float) -> float:
        return max(0.0, (instant - self._began) * 1000)
