"""When to send a probe over an unused link, so that the client notices when the server is worth using again."""

from __future__ import annotations

from dataclasses import dataclass

from .belief import LinkBelief


@dataclass(frozen=True)
class ProbeConfig:
    """How often probes go, and their size: the link is believed to need `busy_ms` for one."""

    interval_s: float = 2.0  # between two probes, if the belief did not change
    again_s: float = 0.25  # after a probe that changed the belief
    changed: float = 0.25  # by at least this share
    busy_ms: float = 15.0  # of the link's time: with 2 s between them less than a hundredth
    least_bytes: int = 500
    most_bytes: int = 20_000

    def __post_init__(self) -> None:
        if not (0 < self.again_s <= self.interval_s and self.busy_ms > 0 and 0 < self.least_bytes <= self.most_bytes):
            raise ValueError(f"got {self}, expected 0 < again_s <= interval_s, busy_ms > 0, 0 < least <= most bytes")


class Prober:
    """Decides; the client sends, as it sends any request, and tells the belief as of any request.

    A probe is a frame that the device answers, sent as a picture of about the size asked for. `now` is in seconds and
    never falls.
    """

    def __init__(self, now: float, config: ProbeConfig | None = None) -> None:
        self._config = config or ProbeConfig()
        self._last = now - self._config.interval_s  # the first one at once
        self._median: float | None = None  # capacity believed in when the last probe was sent

    def used(self, now: float) -> None:
        """A frame was sent, which is as good as a probe."""
        self._last = max(self._last, now)

    def due(self, now: float, belief: LinkBelief) -> int | None:
        """Bytes to send now; None: nothing. The caller must send them: the next probe counts from now.

        While a request waits for its answer, no probe is due: that request is one.
        """
        config = self._config
        if belief.in_flight or now - self._last < config.again_s:
            return None
        median = belief.state(now, 0.5, 0.5).up_mbps
        before = self._median
        changed = before is not None and abs(median - before) > config.changed * min(median, before)
        if now - self._last < (config.again_s if changed else config.interval_s):
            return None
        self._last, self._median = now, median
        return min(max(round(median * 125 * config.busy_ms), config.least_bytes), config.most_bytes)
