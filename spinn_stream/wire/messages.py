"""The messages of spinn.v1, and their bytes.

One WebSocket binary message is one message here:

    2 bytes   length of the header, big-endian
    header    a msgpack array: the type's name, then the fields of the class below in their order; the last ones are
              left out if they have their default
    rest      payload (hello, infer and profile only)

Times are durations or remaining budgets in ms, never points in time. Parsing trusts nothing: unknown types, a wrong
number of fields, wrong types and values out of range raise `RemoteProtocolError`, before memory is allocated for them.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Callable
from dataclasses import MISSING, dataclass, fields
from itertools import pairwise
from typing import Any, Literal, get_args

import msgpack

from spinn_stream.errors import LocalProtocolError, RemoteProtocolError

SUBPROTOCOL = "spinn.v1"

MAX_HEADER_BYTES = 4096  # the largest, a hello with a token of 1,024, takes about 1,300
MAX_ID = 2**53  # exact in every language's numbers
MAX_TOP = 16
MAX_MS = 3_600_000.0
MAX_FACTOR = 1e6
MAX_BATCHES = 16
MAX_BATCH = 4096

RejectReason = Literal[
    "bad_message",  # not spinn.v1, or against its rules; the session ends
    "bundle_mismatch",  # the two ends hold different bundles; the session ends
    "unauthorised",  # the token is missing or wrong; the session ends
    "codec_mismatch",  # no common version of a codec that is needed; the session ends
    "bad_request",  # a field of this request does not fit the bundle or the limits
    "bad_payload",  # the payload does not decode to the activation it should be
    "no_reference",  # the payload is a change since an activation that the server does not hold: send a key frame
    "overloaded",  # more in flight than agreed, or the server's queue is full
    "expired",  # its budget ran out before an engine took it
    "cancelled",  # as asked
    "internal",  # the server's own fault
]
REJECT_REASONS: frozenset[str] = frozenset(get_args(RejectReason))


@dataclass(frozen=True)
class Hello:
    """Client's first message. bundle: its hash in hex. codecs: name -> version.

    The payload has, for each class of the bundle, the index of its group, uint16, little-endian. Empty: answers name
    classes.
    """

    bundle: str
    codecs: dict[str, int]
    token: str | None
    client: str
    payload: bytes = b""


@dataclass(frozen=True)
class Welcome:
    """Server's answer to a hello it accepts. max_in_flight: requests that may wait for an answer at once."""

    bundle: str
    codecs: dict[str, int]
    max_in_flight: int
    max_payload_bytes: int
    server: str


@dataclass(frozen=True)
class Infer:
    """Finish this frame. The payload is the activation at cut point `split`, whose shape the bundle says.

    threshold: an exit answers when its confidence is at least this; None: only the final exit answers.
    budget_ms: time in which an answer is of use, from the arrival of the message at the server. may_shorten: an
    overloaded server may answer at an earlier exit, whatever its confidence, instead of refusing.
    """

    id: int
    split: int
    codec: str
    threshold: float | None
    budget_ms: float
    payload: bytes
    may_shorten: bool = False


@dataclass(frozen=True)
class Result:
    """An answer. exit: index of the exit in the bundle. top: (class or group, probability), best first.

    shortened: the server is overloaded, and an earlier exit than asked for answered.

    arrived_ms, left_ms: on the server's clock since the session began, so that transfer times can be told
    from the server's work.
    """

    id: int
    exit: int
    top: tuple[tuple[int, float], ...]
    arrived_ms: float
    left_ms: float
    shortened: bool = False


@dataclass(frozen=True)
class Reject:
    """No answer, and why. id None: the session is refused, not one request.

    queue_ms: how long a new request would wait for an engine.
    """

    id: int | None
    reason: RejectReason
    detail: str
    queue_ms: float = 0.0


@dataclass(frozen=True)
class Cancel:
    """The answer to this request is no longer of use. It is still acknowledged, by a result or a reject."""

    id: int


@dataclass(frozen=True)
class Load:
    """How busy the server is.

    queue_ms: median wait of a request, from its arrival to an engine, over the last second; 0 when idle.
    factor: time that the network takes over the profiled one; 1.0: as measured when idle.
    """

    queue_ms: float
    factor: float


@dataclass(frozen=True)
class ServerProfile:
    """The server's profile, as it measured itself. batches: rising sizes.

    The payload is a table of float32, little-endian, in ms: for each batch size a row of medians and a row of
    95th percentiles; columns: segments in order, early exits in order, the price of a cut (the same in both).
    """

    runtime: str
    batches: tuple[int, ...]
    payload: bytes


Message = Hello | Welcome | Infer | Result | Reject | Cancel | Load | ServerProfile

_HEADER_LENGTH = struct.Struct(">H")
_TYPES: dict[str, type[Message]] = {
    "hello": Hello,
    "welcome": Welcome,
    "infer": Infer,
    "result": Result,
    "reject": Reject,
    "cancel": Cancel,
    "load": Load,
    "profile": ServerProfile,
}
_NAMES = {cls: name for name, cls in _TYPES.items()}
_WITH_PAYLOAD = {cls for cls in _NAMES if any(f.name == "payload" for f in fields(cls))}


def encode(message: Message) -> bytes:
    """A message's bytes.

    Raises:
        LocalProtocolError: the header would be longer than the peer accepts.
    """
    kind = type(message)
    payload: bytes = getattr(message, "payload", b"")
    values = [getattr(message, name) for name in _FIELDS[kind]]
    least = _LEAST[kind]
    while len(values) > least and values[-1] == _DEFAULTS[kind][len(values) - 1 - least]:
        values.pop()
    header: bytes = msgpack.packb([_NAMES[kind], *map(_short, values)])
    if len(header) > MAX_HEADER_BYTES:
        raise LocalProtocolError(f"a header of {len(header)} bytes, at most {MAX_HEADER_BYTES} go")
    return _HEADER_LENGTH.pack(len(header)) + header + payload


def decode(data: bytes) -> Message:
    """The message in these bytes.

    Raises:
        RemoteProtocolError: they are not a message; says what was got and what was expected.
    """
    if len(data) < 2:
        raise _bad(f"got {len(data)} bytes, expected at least 2")
    (length,) = _HEADER_LENGTH.unpack_from(data)
    if length > MAX_HEADER_BYTES or length > len(data) - 2:
        raise _bad(
            f"a header of {length} bytes is announced; at most {MAX_HEADER_BYTES} are read, {len(data) - 2} are there"
        )
    try:
        header = msgpack.unpackb(
            memoryview(data)[2 : 2 + length],
            raw=False,
            strict_map_key=True,
            max_map_len=32,
            max_array_len=64,
            max_str_len=2048,
            max_bin_len=0,
            max_ext_len=0,
        )
    except Exception as error:  # msgpack raises ValueError, UnpackException, UnicodeDecodeError and others
        raise _bad(f"the header is not msgpack within the limits: {error}") from error
    if not isinstance(header, list) or not header:
        raise _bad(f"the header is of type {type(header).__name__}, expected an array of a type and its fields")
    kind, *given = header
    cls = _TYPES.get(kind) if isinstance(kind, str) else None
    if cls is None:
        raise _bad(f"type {kind!r:.40}, expected one of {', '.join(_TYPES)}")
    readers = _FIELDS[cls]
    least = _LEAST[cls]
    if not least <= len(given) <= len(readers):
        most = f"{least} to {len(readers)}" if least < len(readers) else str(least)
        raise _bad(f"{kind}: got {len(given)} fields, expected {most}: {', '.join(readers)}")
    values: dict[str, Any] = {}
    for (name, read), value in zip(readers.items(), given, strict=False):  # the last ones may be left out
        try:
            values[name] = read(value)
        except ValueError as error:
            raise _bad(f"{kind}.{name}: {error}") from error
    rest = data[2 + length :]
    if cls in _WITH_PAYLOAD:
        values["payload"] = rest
    elif rest:
        raise _bad(f"{kind}: {len(rest)} bytes behind the header, expected none")
    return cls(**values)


def _short(value: Any) -> Any:
    """A whole number as an int: it takes fewer bytes than a float."""
    return int(value) if type(value) is float and value.is_integer() else value


def _bad(detail: str) -> RemoteProtocolError:
    return RemoteProtocolError("bad_message", detail)


def _whole(low: int, high: int) -> Callable[[Any], int]:
    def read(value: Any) -> int:
        if type(value) is not int or not low <= value <= high:
            raise ValueError(f"got {value!r:.40}, expected a whole number from {low} to {high}")
        return value

    return read


def _number(low: float, high: float) -> Callable[[Any], float]:
    def read(value: Any) -> float:
        if type(value) not in (int, float) or not (math.isfinite(value) and low <= value <= high):
            raise ValueError(f"got {value!r:.40}, expected a number from {low} to {high}")
        return float(value)

    return read


def _text(longest: int) -> Callable[[Any], str]:
    def read(value: Any) -> str:
        if not isinstance(value, str) or len(value) > longest:
            raise ValueError(f"got {value!r:.40}, expected text of at most {longest} characters")
        return value

    return read


def _secret(longest: int) -> Callable[[Any], str]:
    """As `_text`, but an error does not repeat the value, which would then be in the log."""

    def read(value: Any) -> str:
        if not isinstance(value, str) or len(value) > longest:
            raise ValueError(f"got something else, expected text of at most {longest} characters")
        return value

    return read


def _flag(value: Any) -> bool:
    if type(value) is not bool:
        raise ValueError(f"got {value!r:.40}, expected true or false")
    return value


def _optional(inner: Callable[[Any], Any]) -> Callable[[Any], Any]:
    return lambda value: None if value is None else inner(value)


def _codecs(value: Any) -> dict[str, int]:
    if not isinstance(value, dict):
        raise ValueError(f"got {value!r:.40}, expected codec names and versions")
    return {_text(32)(name): _whole(0, 2**31)(version) for name, version in value.items()}


def _top(value: Any) -> tuple[tuple[int, float], ...]:
    if not isinstance(value, list) or not 0 < len(value) <= MAX_TOP:
        raise ValueError(f"got {value!r:.40}, expected 1 to {MAX_TOP} pairs of class and probability")
    pairs = []
    for pair in value:
        if not isinstance(pair, list) or len(pair) != 2:
            raise ValueError(f"got {pair!r:.40}, expected a class and a probability")
        pairs.append((_whole(0, 2**31)(pair[0]), _number(0, 1)(pair[1])))
    return tuple(pairs)


def _batches(value: Any) -> tuple[int, ...]:
    if not isinstance(value, list) or not 0 < len(value) <= MAX_BATCHES:
        raise ValueError(f"got {value!r:.40}, expected 1 to {MAX_BATCHES} batch sizes")
    sizes = tuple(_whole(1, MAX_BATCH)(size) for size in value)
    if any(a >= b for a, b in pairwise(sizes)):
        raise ValueError(f"got {value!r:.40}, expected rising batch sizes")
    return sizes


def _reason(value: Any) -> Any:
    if value not in REJECT_REASONS if isinstance(value, str) else True:
        raise ValueError(f"got {value!r:.40}, expected one of {', '.join(sorted(REJECT_REASONS))}")
    return value


_ID = _whole(0, MAX_ID)
_FIELDS: dict[type[Message], dict[str, Callable[[Any], Any]]] = {
    Hello: {"bundle": _text(64), "codecs": _codecs, "token": _optional(_secret(1024)), "client": _text(100)},
    Welcome: {"bundle": _text(64), "codecs": _codecs, "max_in_flight": _whole(1, 10_000),
              "max_payload_bytes": _whole(1, 2**31), "server": _text(100)},
    Infer: {"id": _ID, "split": _whole(0, 10_000), "codec": _text(32), "threshold": _optional(_number(0, 1)),
            "budget_ms": _number(0, MAX_MS), "may_shorten": _flag},
    Result: {"id": _ID, "exit": _whole(0, 10_000), "top": _top, "arrived_ms": _number(0, 1e12),
             "left_ms": _number(0, 1e12), "shortened": _flag},
    Reject: {"id": _optional(_ID), "reason": _reason, "detail": _text(1000), "queue_ms": _number(0, MAX_MS)},
    Cancel: {"id": _ID},
    Load: {"queue_ms": _number(0, MAX_MS), "factor": _number(0, MAX_FACTOR)},
    ServerProfile: {"runtime": _text(100), "batches": _batches},
}  # fmt: skip
_DEFAULTS: dict[type[Message], list[Any]] = {
    kind: [f.default for f in fields(kind) if f.name in readers and f.default is not MISSING]
    for kind, readers in _FIELDS.items()
}
_LEAST = {kind: len(readers) - len(_DEFAULTS[kind]) for kind, readers in _FIELDS.items()}
