"""The settings of a shaper: given at its start, and changed while it runs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from spinn_stream.trace import LIMITS, Trace

from .link_model import SEGMENT_BYTES, Conditions, Played, Steady

TRACE = "trace"
"""In place of a value: follow the trace."""

MOST_QUEUE_BYTES = 1 << 30


@dataclass(frozen=True)
class Settings:
    """Each a number, or "trace". A capacity may be None: unlimited."""

    up_mbps: float | str | None = None  # 10^6 bits a second of TCP payload towards the server; 0: nothing passes
    down_mbps: float | str | None = None  # the same towards the client
    rtt_ms: float | str = 0.0  # added round trip, half of it each way
    loss: float | str = 0.0  # probability that a segment is lost; 0 to 1
    jitter_ms: float = 0.0  # a further delay from 0 to this, in a round trip
    queue_ms: float = 100.0  # what a queue holds, as time at full capacity; at least ten segments ...
    queue_bytes: float | None = None  # ... or in bytes
    stall: bool = False  # nothing moves
    refuse: bool = False  # no new connections

    def changed(self, changes: Mapping[str, Any], *, has_trace: bool) -> Settings:
        """The settings with other values, each checked.

        Raises:
            ValueError: an unknown name, or an invalid value; one line.
        """
        known = asdict(self)
        for name, value in changes.items():
            if name not in known:
                raise ValueError(f"{name[:40]!r} is no setting, expected some of {', '.join(known)}")
            _check(name, value, has_trace)
        return replace(self, **changes)

    def conditions(self, direction: str, trace: Trace | None, zero: float) -> Conditions:
        """The conditions of one direction, by the name of its capacity. zero: when the trace began."""

        def course(field: str) -> Steady | Played:
            value = getattr(self, field)
            if value == TRACE:
                assert trace is not None
                return Played(trace, field, zero)
            return Steady(value)

        return Conditions(
            mbps=course(direction),
            rtt_ms=course("rtt_ms"),
            loss=course("loss"),
            jitter_ms=self.jitter_ms,
            queue_ms=self.queue_ms,
            queue_bytes=None if self.queue_bytes is None else int(self.queue_bytes),
        )


def _check(name: str, value: Any, has_trace: bool) -> None:
    if name in {"stall", "refuse"}:
        if not isinstance(value, bool):
            raise ValueError(f"{name} is {value!r:.40}, expected true or false")
        return
    if value is None and name in {"up_mbps", "down_mbps", "queue_bytes"}:
        return
    if value == TRACE and name in LIMITS:
        if not has_trace:
            raise ValueError(f"{name} is 'trace', but there is no trace")
        return
    low, high = 0.0, LIMITS.get(name, LIMITS["rtt_ms"])
    if name == "queue_bytes":
        low, high = SEGMENT_BYTES, MOST_QUEUE_BYTES
    if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
        raise ValueError(f"{name} is {value!r:.40}, expected {low:g} to {high:g}")
