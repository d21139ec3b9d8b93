"""A made-up link with requests in order, that tells a belief what comes back. Clocks are numbers."""

from __future__ import annotations

import random
from collections.abc import Callable

from spinn_stream.codec.settings import CodecSetting
from spinn_stream.plan import LinkBelief

SERVER_MS = 5.0
PING_S = 0.5


class PlayedLink:
    """up_mbps, rtt_ms: functions of the time. noise: standard deviation of each 50 ms' capacity, as a share of it.

    pings_wait: pings are sent behind requests, too; otherwise when nothing is under way.
    """

    def __init__(
        self,
        up_mbps: Callable[[float], float],
        rtt_ms: Callable[[float], float],
        *,
        noise: float = 0.0,
        seed: int = 0,
        pings_wait: bool = False,
    ) -> None:
        self.up_mbps, self.rtt_ms, self.noise, self.pings_wait = up_mbps, rtt_ms, noise, pings_wait
        self.belief = LinkBelief(0.0)
        self.rng = random.Random(seed)
        self.wavers: dict[int, float] = {}
        self.free = self.now = 0.0
        self.request = 0
        self.coming: list[tuple[float, int, float]] = []  # (when, request or -1 for a ping, ping's ms)
        self.pinged = -PING_S

    def send(self, size: int, now: float) -> None:
        self.request += 1
        self.belief.sent(self.request, size, now)
        left, at = size * 8e-6, max(self.free, now)
        while left > 1e-12:
            slot = int(at * 20)
            waver = self.wavers.setdefault(slot, max(0.3, self.rng.gauss(1, self.noise)))
            capacity = self.up_mbps(at) * waver
            step = min((slot + 1) / 20 - at + 1e-9, left / capacity)
            left, at = left - step * capacity, at + step
        self.free = at
        back = at + self.rtt_ms(now) / 1000 + SERVER_MS / 1000 + abs(self.rng.gauss(0, 0.001))
        self.coming.append((back, self.request, 0.0))

    def settle(self, now: float) -> None:
        """Tell of what came by now; ping now and then."""
        self.coming.sort()
        while self.coming and self.coming[0][0] <= now:
            at, request, ms = self.coming.pop(0)
            self.now = at
            if request < 0:
                self.belief.ponged(ms, at)
            else:
                self.belief.answered(request, at, arrived_ms=1000 * at, left_ms=1000 * at + SERVER_MS)
        if now - self.pinged >= PING_S and (self.pings_wait or self.free < now):
            self.pinged = now
            ms = 1000 * max(0.0, self.free - now) + self.rtt_ms(now) + abs(self.rng.gauss(0, 1))
            self.coming.append((now + ms / 1000, -1, ms))

    def run(self, fps: float, size: int, start: float, stop: float) -> list[tuple[float, float, float]]:
        """Frames of about this size from one time to another: (when, capacity and round trip planned with)."""
        found = []
        for k in range(int((stop - start) * fps)):
            now = start + k / fps
            self.settle(now)
            if self.belief.in_flight < 16:
                self.send(round(size * self.rng.uniform(0.8, 1.2)), now + 0.002)
            state = self.belief.state(now + 0.003)
            found.append((now, state.up_mbps, state.rtt_ms))
        return found


def probe_bytes(probe: CodecSetting) -> int:
    """About what a small picture takes: 0.5 kB at quality 5, 1.8 kB at 30, 6 kB at 95."""
    assert probe.quality is not None
    return 200 + 60 * probe.quality


def steady(value: float) -> Callable[[float], float]:
    return lambda at: value


def step(before: float, after: float, at: float) -> Callable[[float], float]:
    return lambda now: after if now >= at else before
