"""What an ingress, which holds sessions, and a replica, which runs the network, say to each other.

The ingress opens a WebSocket and says hello; the replica welcomes it. From then on orders go one way and reports the
other. One message holds all that was ready at the time, as one msgpack array. Times are remaining budgets in ms: each
machine has its own clock. Both ends are ours, and of one version; what does not fit ends the link.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeVar

import msgpack

from spinn_stream.errors import RemoteProtocolError
from spinn_stream.wire import RejectReason
from spinn_stream.wire.messages import REJECT_REASONS

SUBPROTOCOL = "spinn-work.v1"

DENSE = "dense"
"""The codec of an activation that the ingress has decoded: float32, little-endian."""

MAX_ORDERS_BYTES = 1024 * 1024
"""Payloads of one message, unless one alone is larger; more go into the next message."""


@dataclass(frozen=True)
class LinkHello:
    """The ingress's first message. bundle: its hash. secret: that all parts of one deployment share."""

    bundle: str
    secret: str


@dataclass(frozen=True)
class LinkWelcome:
    """The replica's answer. version: of its program, for the log."""

    version: str


@dataclass(frozen=True)
class Task:
    """One request for a replica.

    number: of this link, never used again. client: one that has joined. codec: DENSE, or one whose payloads can be
    decoded alone. needed: (cut point, confidence) of each early exit that may answer.
    """

    number: int
    client: int
    split: int
    codec: str
    needed: tuple[tuple[int, float], ...]
    budget_ms: float
    may_shorten: bool
    payload: bytes


@dataclass(frozen=True)
class Orders:
    """To be done in the order of the fields. joined: clients, and for each class its group (uint16, little-endian), if
    answers name groups. cancelled: numbers of tasks. left: clients; their tasks are not run any more."""

    joined: tuple[tuple[int, bytes], ...] = ()
    tasks: tuple[Task, ...] = ()
    cancelled: tuple[int, ...] = ()
    left: tuple[int, ...] = ()


@dataclass(frozen=True)
class Answered:
    """exit: its index in the bundle. top: (class or group, probability), the likeliest first."""

    number: int
    exit: int
    confidence: float
    top: tuple[tuple[int, float], ...]
    shortened: bool


@dataclass(frozen=True)
class NotRun:
    """The replica refused a task, or dropped it."""

    number: int
    reason: RejectReason
    detail: str


@dataclass(frozen=True)
class Report:
    """What became of tasks, and the replica's load.

    queue_ms, factor: see `Tail.load`. delay_ms: how long a new request would wait. open: tasks of all its links.
    taking: False: it is ending, and would refuse new tasks.
    """

    queue_ms: float
    factor: float
    delay_ms: float
    open: int
    taking: bool = True
    answered: tuple[Answered, ...] = ()
    refused: tuple[NotRun, ...] = ()


Said = LinkHello | LinkWelcome | Orders | Report
M = TypeVar("M", LinkHello, LinkWelcome, Orders, Report)


def encode(message: Said) -> bytes:
    packed: bytes = msgpack.packb(_plain(message))
    return packed


def decode(kind: type[M], data: bytes) -> M:
    """The message of this kind.

    Raises:
        RemoteProtocolError: it is another one, or damaged.
    """
    try:
        return _READERS[kind](msgpack.unpackb(data, use_list=False))  # type: ignore[no-any-return]
    except (ValueError, TypeError, msgpack.UnpackException) as error:
        raise RemoteProtocolError("bad_message", f"expected {kind.__name__}: {error}") from error


def _plain(message: Said) -> list[Any]:
    if isinstance(message, LinkHello):
        return [message.bundle, message.secret]
    if isinstance(message, LinkWelcome):
        return [message.version]
    if isinstance(message, Orders):
        tasks = [
            (t.number, t.client, t.split, t.codec, t.needed, t.budget_ms, t.may_shorten, t.payload)
            for t in message.tasks
        ]
        return [message.joined, tasks, message.cancelled, message.left]
    answered = [(a.number, a.exit, a.confidence, a.top, a.shortened) for a in message.answered]
    refused = [(r.number, r.reason, r.detail) for r in message.refused]
    return [message.queue_ms, message.factor, message.delay_ms, message.open, message.taking, answered, refused]


def _hello(said: Any) -> LinkHello:
    bundle, secret = said
    return LinkHello(_is(str, bundle), _is(str, secret))


def _welcome(said: Any) -> LinkWelcome:
    (version,) = said
    return LinkWelcome(_is(str, version))


def _orders(said: Any) -> Orders:
    joined, tasks, cancelled, left = said
    return Orders(
        tuple((_is(int, client), _is(bytes, groups)) for client, groups in joined),
        tuple(_task(*task) for task in tasks),
        tuple(_is(int, number) for number in cancelled),
        tuple(_is(int, client) for client in left),
    )


def _task(
    number: Any, client: Any, split: Any, codec: Any, needed: Any, budget_ms: Any, may_shorten: Any, payload: Any
) -> Task:
    needs = tuple((_is(int, cut), float(least)) for cut, least in needed)
    return Task(
        _is(int, number), _is(int, client), _is(int, split), _is(str, codec), needs, float(budget_ms),
        _is(bool, may_shorten), _is(bytes, payload),
    )  # fmt: skip


def _report(said: Any) -> Report:
    queue_ms, factor, delay_ms, count, taking, answered, refused = said
    return Report(
        float(queue_ms),
        float(factor),
        float(delay_ms),
        _is(int, count),
        _is(bool, taking),
        tuple(
            Answered(
                _is(int, number), _is(int, at), float(sure), tuple((_is(int, k), float(p)) for k, p in top),
                _is(bool, shortened),
            )
            for number, at, sure, top, shortened in answered
        ),
        tuple(NotRun(_is(int, number), _reason(reason), _is(str, detail)) for number, reason, detail in refused),
    )  # fmt: skip


def _reason(value: Any) -> Any:
    if value not in REJECT_REASONS:
        raise ValueError(f"got the reason {value!r:.40}")
    return value


T = TypeVar("T")


def _is(kind: type[T], value: Any) -> T:
    if not isinstance(value, kind):
        raise TypeError(f"got {value!r:.40}, expected {kind.__name__}")
    return value


_READERS: dict[type[Any], Any] = {LinkHello: _hello, LinkWelcome: _welcome, Orders: _orders, Report: _report}
