"""How long work will take: the profile, corrected by observations."""

from __future__ import annotations

from spinn_stream.bundle import Bundle
from spinn_stream.profile import LoadTracker, Profile

NEARLY = 1.1
"""A batch is large enough if a larger one is less than a tenth cheaper for each request."""

REFRESH_S = 0.05
"""The load factor is read before every answer, but computed anew only after this time."""

FORGET_S = 1.0
"""An older observation of the load refuses no request: otherwise nothing would run, and its end would not be seen."""

MEMORY = 1 / 64
"""Weight of the newest observation in the means: of a request's share of the way to the end, and of a step's
overhead."""


class Costs:
    """Expected times in seconds. Without a profile they are all 0, so they refuse nothing.

    Args:
        most: the largest batch that is run.
    """

    def __init__(self, bundle: Bundle, profile: Profile | None, most: int) -> None:
        self._profile = profile
        self._most = most
        self.last = bundle.last
        self.exits = tuple(e.cut for e in bundle.exits)
        self._known: dict[tuple[int, int, int], float] = {}
        self._enough: dict[int, int] = {}
        self._rows: dict[tuple[int, int], float] = {}
        self._runs = LoadTracker()
        self._factor = self._told = 1.0  # what is expected, and what clients are told
        self._found_at = -REFRESH_S
        self._ran_at = 0.0
        self._share = 1.0
        self._beside = 0.0

    def observe(self, start: int, stop: int, batch: int, seconds: float, now: float) -> None:
        """A batch took `seconds` from one cut point to another, with the exit there."""
        if self._profile is not None:
            expected = self._idle(start, stop, batch)
            self._runs.observe((start, stop), observed_ms=seconds * 1000, expected_ms=expected * 1000, now=now)
            self._ran_at = now
            self._factor = self.factor(now)

    def forget(self, now: float) -> bool:
        """Expect what the profile says if nothing has run for a while. Gives whether that is something new."""
        if now - self._ran_at <= FORGET_S or self._factor == 1.0:
            return False
        self._factor = 1.0
        return True

    def spent_beside(self, seconds: float) -> None:
        """A step's overhead: the time to decide on it, to hand it over and to report its results."""
        self._beside += MEMORY * (seconds - self._beside)

    def left(self, split: int, cut: int) -> None:
        """A request that began at `split` was answered at `cut`."""
        enough = self.enough(split)
        whole = self._idle(split, self.last, enough)
        if whole > 0:
            self._share += MEMORY * (self._idle(split, cut, enough) / whole - self._share)

    def factor(self, now: float) -> float:
        """Time that the network takes over the profiled one; 1.0: as measured when idle."""
        if now - self._found_at >= REFRESH_S:
            self._told, self._found_at = self._runs.factor(now), now
        return self._told

    def run(self, start: int, stop: int, batch: int) -> float:
        """One batch from one cut point to another."""
        return self._factor * self._idle(start, stop, batch)

    def row(self, start: int, stop: int) -> float:
        """The time that one request adds to a batch that is large enough, if early exits answer as often as lately."""
        idle = self._rows.get((start, stop))
        if idle is None:
            enough = self.enough(start)
            idle = self._rows[start, stop] = self._idle(start, stop, enough) / enough
        return self._factor * idle * (self._share if stop == self.last else 1.0)

    def gain(self, start: int, one: int, other: int) -> float:
        """The time saved on the way to the end if two batches run together, as far as one batch can hold both."""
        if self._profile is None:
            return 1.0
        together = min(one + other, self._most)
        apart, joined = (one, other), (together, one + other - together)
        return sum(self.run(start, self.last, n) for n in apart) - sum(self.run(start, self.last, n) for n in joined)

    def stop_price(self, start: int, between: int, stop: int, batch: int) -> float:
        """The price of running two pieces instead of one."""
        apart = self.run(start, between, batch) + self.run(between, stop, batch)
        return apart - self.run(start, stop, batch) + self._beside

    def next_exit(self, cut: int) -> int:
        """The first exit behind a cut point."""
        return next(e for e in self.exits if e > cut)

    def enough(self, cut: int) -> int:
        """The smallest batch whose time for each request is nearly the lowest, from a cut point to the end."""
        found = self._enough.get(cut)
        if found is None:
            price = {n: self._idle(cut, self.last, n) / n for n in range(1, self._most + 1)}
            best = min(price.values())
            known = self._profile is not None
            found = next(n for n, each in price.items() if each <= NEARLY * best) if known else self._most
            self._enough[cut] = found
        return found

    def _idle(self, start: int, stop: int, batch: int) -> float:
        key = start, stop, batch
        found = self._known.get(key)
        if found is None:
            found = 0.0
            if self._profile is not None and start < stop:
                found = self._profile.expected_ms([(start, stop)], {stop}, batch=batch) / 1000
            self._known[key] = found
        return found
