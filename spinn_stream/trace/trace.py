"""One network over time: capacity in each direction, round trip and loss, each measured, assumed or missing."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]

DIRECTIONS = ("up_mbps", "down_mbps")
"""Capacity from the device to the server, and back; 10^6 bits a second."""

FIELDS = (*DIRECTIONS, "rtt_ms", "loss")

LIMITS = {"up_mbps": 100_000.0, "down_mbps": 100_000.0, "rtt_ms": 60_000.0, "loss": 1.0}
"""The largest value of each field, as spinn_traces.shape.link_model has them; the smallest is 0."""

MAX_SAMPLES = 5_000_000
"""28 hours in steps of 20 ms; 200 MB with every field."""

MAX_DURATION_S = 1e8

BYTES_PER_MBIT = 125_000.0


@dataclass(frozen=True)
class Assumptions:
    """What a replay assumes if a trace does not record it. A missing direction is the same as the other one.

    mbps: of both directions if neither is recorded, so large that the recorded delay decides.
    """

    mbps: float = 100.0
    rtt_ms: float = 50.0
    loss: float = 0.0

    def __post_init__(self) -> None:
        for name, limit in (("up_mbps", self.mbps), ("rtt_ms", self.rtt_ms), ("loss", self.loss)):
            if not 0 <= limit <= LIMITS[name]:
                raise ValueError(f"{name} is {limit}, expected 0 to {LIMITS[name]:g}")


@dataclass(frozen=True, eq=False)
class Trace:
    """Constant between its times, and repeated without end: at `duration_s` it begins again, as Mahimahi's do.

    times_s: where each sample begins; the first is 0, each later than the one before. (N,)
    duration_s: where the last sample ends.
    up_mbps, down_mbps, rtt_ms, loss: a value for each sample, (N,), or None: not recorded. loss is a fraction.
    measured: names of the measured fields. The others are None or assumed.

    Raises:
        ValueError: values that are not numbers, out of `LIMITS` or not as many as times; times that do not rise.
    """

    times_s: Array
    duration_s: float
    up_mbps: Array | None = None
    down_mbps: Array | None = None
    rtt_ms: Array | None = None
    loss: Array | None = None
    measured: frozenset[str] = field(default_factory=frozenset)

    def __post_init__(self) -> None:
        times = _frozen(self.times_s)
        if times.ndim != 1 or not 1 <= len(times) <= MAX_SAMPLES:
            raise ValueError(f"times have the shape {times.shape}, expected (N,) with N from 1 to {MAX_SAMPLES}")
        if not np.isfinite(times).all() or times[0] != 0 or not (np.diff(times) > 0).all():
            raise ValueError("times do not rise from 0")
        if not times[-1] < self.duration_s <= MAX_DURATION_S:
            raise ValueError(
                f"duration is {self.duration_s} s, expected above {times[-1]} and at most {MAX_DURATION_S:g}"
            )
        object.__setattr__(self, "times_s", times)
        object.__setattr__(self, "duration_s", float(self.duration_s))
        object.__setattr__(self, "measured", frozenset(self.measured))
        if not self.recorded:
            raise ValueError(f"nothing is recorded, expected at least one of {', '.join(FIELDS)}")
        for name in self.recorded:
            values = _frozen(getattr(self, name))
            if values.shape != times.shape:
                raise ValueError(f"{name} has the shape {values.shape}, expected {times.shape} as times_s")
            if not ((values >= 0) & (values <= LIMITS[name])).all():
                raise ValueError(f"{name} has values that are not between 0 and {LIMITS[name]:g}")
            object.__setattr__(self, name, values)
        if not self.measured <= set(self.recorded):
            raise ValueError(f"measured are {sorted(self.measured)}, expected some of {', '.join(self.recorded)}")

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Trace):
            return NotImplemented
        if (self.duration_s, self.measured, self.recorded) != (other.duration_s, other.measured, other.recorded):
            return False
        names = ("times_s", *self.recorded)
        return all(np.array_equal(getattr(self, name), getattr(other, name)) for name in names)

    __hash__ = None  # type: ignore[assignment]

    @property
    def recorded(self) -> tuple[str, ...]:
        """Names of the fields that have values, in the order of `FIELDS`."""
        return tuple(name for name in FIELDS if getattr(self, name) is not None)

    @property
    def assumed(self) -> tuple[str, ...]:
        """Names of the fields that are not measured, in the order of `FIELDS`."""
        return tuple(name for name in FIELDS if name not in self.measured)

    def values(self, name: str) -> Array:
        """The samples of one field.

        Raises:
            ValueError: it is not recorded; `filled` puts an assumption in its place.
        """
        values: Array | None = getattr(self, name) if name in FIELDS else None
        if values is None:
            raise ValueError(f"{name} is not recorded, expected one of {', '.join(self.recorded)}")
        return values

    def filled(self, assumptions: Assumptions | None = None) -> Trace:
        """The same trace with every field: missing ones get their assumed value, and stay marked as assumed."""
        a = assumptions or Assumptions()

        def constant(value: float) -> Array:
            return np.full(len(self.times_s), value)

        up, down = self.up_mbps, self.down_mbps
        if up is None:
            up = constant(a.mbps) if down is None else down
        return replace(
            self,
            up_mbps=up,
            down_mbps=up if down is None else down,
            rtt_ms=constant(a.rtt_ms) if self.rtt_ms is None else self.rtt_ms,
            loss=constant(a.loss) if self.loss is None else self.loss,
        )

    # in time

    @cached_property
    def _edges(self) -> Array:
        return np.append(self.times_s, self.duration_s)

    @cached_property
    def _steps(self) -> Array:
        return np.diff(self._edges)

    @cached_property
    def _passed(self) -> dict[str, Array]:
        """For each direction, the bytes that may have passed up to each edge."""
        return {
            name: np.concatenate(([0.0], np.cumsum(self.values(name) * self._steps * BYTES_PER_MBIT)))
            for name in DIRECTIONS
            if getattr(self, name) is not None
        }

    def value(self, name: str, t_s: float) -> float:
        """A field at a time from 0 on, however late."""
        _check_time(t_s)
        at = int(np.searchsorted(self.times_s, t_s % self.duration_s, side="right")) - 1
        return float(self.values(name)[at])

    def mean(self, name: str) -> float:
        """Weighted by time."""
        return float(np.dot(self.values(name), self._steps) / self.duration_s)

    # bytes

    def _passed_by(self, name: str) -> Array:
        if name not in DIRECTIONS:
            raise ValueError(f"{name} is no capacity, expected one of {', '.join(DIRECTIONS)}")
        self.values(name)
        return self._passed[name]

    def _bytes_to(self, name: str, t_s: float) -> float:
        """Bytes that may pass from 0 to a time, however late."""
        rounds, rest = divmod(t_s, self.duration_s)
        passed = self._passed_by(name)
        return float(rounds * passed[-1] + np.interp(rest, self._edges, passed))

    def bytes_between(self, name: str, start_s: float, end_s: float) -> float:
        """Bytes that one direction lets pass from one time to a later one."""
        _check_time(start_s)
        if not start_s <= end_s < math.inf:
            raise ValueError(f"the end is {end_s} s, expected from {start_s}")
        return max(0.0, self._bytes_to(name, end_s) - self._bytes_to(name, start_s))

    def time_passed(self, name: str, payload_bytes: float, start_s: float) -> float:
        """The earliest time when one direction has let `payload_bytes` pass since `start_s`; infinity: never.

        The inverse of `bytes_between`.
        """
        _check_time(start_s)
        if not 0 <= payload_bytes < math.inf:
            raise ValueError(f"got {payload_bytes} bytes, expected a number from 0")
        passed = self._passed_by(name)
        if payload_bytes == 0:
            return start_s
        if passed[-1] == 0:
            return math.inf
        wanted = self._bytes_to(name, start_s) + payload_bytes
        rounds = math.ceil(wanted / passed[-1]) - 1  # so that what is left is above 0: the earliest of equal times
        left = min(wanted - rounds * passed[-1], passed[-1])
        after = max(1, int(np.searchsorted(passed, left, side="left")))
        rate = (passed[after] - passed[after - 1]) / self._steps[after - 1]
        within = (left - passed[after - 1]) / rate if rate > 0 else 0.0
        return max(start_s, float(rounds * self.duration_s + self._edges[after - 1] + within))

    def windows(self, name: str, width_s: float = 1.0) -> Array:
        """Mean Mb/s of one direction in each whole window, from 0 on; what is left at the end has no window."""
        if not 0 < width_s < math.inf:
            raise ValueError(f"windows are {width_s} s wide, expected more than 0")
        count = math.floor(self.duration_s / width_s + 1e-9)
        if count > MAX_SAMPLES:
            raise ValueError(f"{count} windows of {width_s} s, expected at most {MAX_SAMPLES}")
        ends = np.minimum(np.arange(count + 1) * width_s, self.duration_s)
        passed: Array = np.diff(np.interp(ends, self._edges, self._passed_by(name)))
        return np.maximum(passed, 0.0) / (width_s * BYTES_PER_MBIT)

    # pieces

    def slice(self, start_s: float, end_s: float) -> Trace:
        """From one time to another within the trace; it begins at 0 again."""
        if not 0 <= start_s < end_s <= self.duration_s:
            raise ValueError(f"got {start_s} to {end_s} s, expected a stretch within 0 to {self.duration_s}")
        first = int(np.searchsorted(self.times_s, start_s, side="right")) - 1
        behind = int(np.searchsorted(self.times_s, end_s, side="left"))
        times = np.maximum(self.times_s[first:behind] - start_s, 0.0)
        return self._picked(np.arange(first, behind), times, end_s - start_s)

    def loop(self, duration_s: float) -> Trace:
        """Repeated, or cut, until it lasts `duration_s`."""
        if not 0 < duration_s <= MAX_DURATION_S:
            raise ValueError(f"duration is {duration_s} s, expected above 0 and at most {MAX_DURATION_S:g}")
        rounds = math.ceil(duration_s / self.duration_s)
        if rounds * len(self.times_s) > 2 * MAX_SAMPLES:
            raise ValueError(f"{rounds} rounds of {len(self.times_s)} samples, expected at most {MAX_SAMPLES} samples")
        times = np.add.outer(np.arange(rounds) * self.duration_s, self.times_s).ravel()
        keep = int(np.searchsorted(times, duration_s, side="left"))
        return self._picked(np.arange(keep) % len(self.times_s), times[:keep], duration_s)

    def _picked(self, which: npt.NDArray[np.int64], times: Array, duration_s: float) -> Trace:
        picked: dict[str, Any] = {name: self.values(name)[which] for name in self.recorded}
        return replace(self, times_s=times, duration_s=duration_s, **picked)


def _frozen(values: npt.ArrayLike) -> Array:
    array = np.array(values, np.float64)
    array.setflags(write=False)
    return array


def _check_time(t_s: float) -> None:
    if not 0 <= t_s < math.inf:
        raise ValueError(f"the time is {t_s} s, expected a number from 0")
