"""How long the device's own runs take: to keep deadlines, and as a load factor for the scheduler."""

from __future__ import annotations

from collections.abc import Sequence

from spinn_stream.profile import LoadTracker, Profile

Piece = tuple[int, int]
"""(first cut point, last cut point) of one graph."""

Graph = tuple[Piece, bool]
"""A piece, and whether it computes the exit at its end."""

UNDISTURBED = 1.25
"""A job counts as undisturbed if it took at most this factor of the expected time."""

STEP = 0.05
"""How fast the time besides the network is learned: a share of the difference for each job."""

MOST_GROWTH = 4.0
"""One run counts as at most this many times what was known. So a processor that is taken away for good is known after
some runs, and a machine that slept for once is not taken for one that is as slow for ever."""

USUAL_S = 30.0
"""The usual load is a mean over about this much of the time in which something ran."""


class StageClock:
    """How long each piece takes on this device: a slowly forgotten maximum, since it guards deadlines.

    For a piece that never ran, it is the profile's time, times the load of the last second.
    """

    def __init__(self, profile: Profile) -> None:
        self._profile = profile
        self._ms: dict[Piece, float] = {}
        self._load = LoadTracker()
        self._predicted = LoadTracker()
        self._usual: tuple[float, float, float] | None = None  # when it was brought up to date, the load, of how long
        self._besides: dict[object, float] = {}  # kind of job and its graphs -> ms

    def observe(self, start: int, stop: int, ms: float) -> None:
        """One run of a piece, with the exit at its end or without."""
        known = self._ms.get((start, stop))
        self._ms[start, stop] = ms if known is None else max(min(ms, MOST_GROWTH * known), 0.9 * known)

    def observe_job(
        self, kind: str, graphs: Sequence[Graph], ms: float, now: float, *, besides_ms: float | None = None
    ) -> None:
        """A job of some graphs, timed from handing it to the thread until the answer was back.

        The load shows here, and not in single runs: on a shared core, a thread is paused between two runs as often as
        within one. A job's time besides its graphs (preprocessing, coding, changing threads) is learned from
        undisturbed jobs. There are some under load, too.

        Args:
            kind: jobs of one kind do the same besides their graphs. ms: of the whole job. now: its end, in seconds.
            besides_ms: predicted time of all but the graphs; None: such jobs are not predicted.
        """
        expected = self._profile.expected_ms([piece for piece, _ in graphs], {p[1] for p, exit in graphs if exit})
        if besides_ms is not None:
            self._predicted.observe(kind, observed_ms=ms, expected_ms=expected + besides_ms, now=now)
        group = (kind, tuple(graphs))
        seen = max(ms - expected, 0.0)
        besides = self._besides.get(group, seen)
        ratio = ms / (expected + besides) if ms > 0 else 1.0
        if ratio < 1 / UNDISTURBED:
            besides = seen
        elif ratio < UNDISTURBED:
            besides += STEP * (seen - besides)
        self._besides[group] = besides
        self._load.observe(group, observed_ms=ms, expected_ms=expected + besides, now=now)

    def expected_ms(self, pieces: Sequence[Piece], now: float) -> float:
        total = 0.0
        for piece in pieces:
            seen = self._ms.get(piece)
            total += (
                seen if seen is not None else self._profile.expected_ms([piece], {piece[1]}) * self.load_factor(now)
            )
        return total

    def load_factor(self, now: float) -> float:
        """How much slower the device is than its profile, over the last second; 1.0 if little ran."""
        return self._load.factor(now)

    @property
    def usual_load(self) -> float:
        """The long-term mean of `load_of_prediction`; 1.0 as long as nothing is known."""
        return 1.0 if self._usual is None else self._usual[1]

    def load_of_prediction(self, now: float) -> float:
        """Time of jobs over their predicted time, in the last second, with the learned time besides the graphs.

        If little ran lately, it is the usual load: a core that waits between frames is never as fast as when it was
        profiled, and a plan that sends everything does not show that."""
        recent = self._predicted.recent(now)
        if recent is None:
            return self.usual_load
        if self._usual is None:
            self._usual = now, recent, 0.0
        else:
            then, usual, seen = self._usual
            seen = min(seen + now - then, USUAL_S)
            # A plain mean at first, so that a cold start is soon over.
            share = min((now - then) / seen, 1.0) if seen > 0 else 0.0
            self._usual = now, usual + share * (recent - usual), seen
        return recent
