"""When bytes that enter one direction of a link come out of it. Plain arithmetic; `now` is an argument."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Conditions:
    """What one direction of a link imposes."""

    mbps: float | None = None  # capacity, 10^6 bits a second of TCP payload; None: unlimited
    delay_ms: float = 0.0  # from the last bit's departure to its arrival

    def __post_init__(self) -> None:
        if self.mbps is not None and not 0.001 <= self.mbps <= 100_000:
            raise ValueError(f"capacity is {self.mbps} Mb/s, expected 0.001 to 100000")
        if not 0 <= self.delay_ms <= 60_000:
            raise ValueError(f"delay is {self.delay_ms} ms, expected 0 to 60000")


class LinkModel:
    """A first-in first-out link: one chunk after the other at the capacity, then the delay."""

    def __init__(self) -> None:
        self._free_at = float("-inf")
        self._last_arrival = float("-inf")

    def arrival(self, now: float, size: int, conditions: Conditions) -> float:
        """When a chunk of `size` bytes that enters at `now` (seconds) has arrived whole.

        Never before a chunk that entered earlier, also when the delay shrank in between.
        """
        begins = max(now, self._free_at)
        self._free_at = begins if conditions.mbps is None else begins + size * 8e-6 / conditions.mbps
        self._last_arrival = max(self._last_arrival, self._free_at + conditions.delay_ms / 1000)
        return self._last_arrival
