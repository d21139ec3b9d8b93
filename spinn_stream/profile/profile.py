"""A profile: how long one engine on one machine takes for every segment and exit of a bundle."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class Timing:
    """Milliseconds: the median over the runs, and the 95th percentile."""

    median_ms: float
    p95_ms: float

    def __post_init__(self) -> None:
        if not 0 <= self.median_ms < 1e9 or not 0 <= self.p95_ms < 1e9:
            raise ValueError(f"got {self.median_ms} and {self.p95_ms} ms, expected numbers from 0")


@dataclass(frozen=True)
class BatchProfile:
    """Times for one batch size, of the whole batch.

    segments: segment i leads from cut point i to i + 1. exits: the heads of the early exits, shallow to deep.
    call_ms: the price of a cut: what one more graph costs.
    """

    batch: int
    segments: tuple[Timing, ...]
    exits: tuple[Timing, ...]
    call_ms: float


@dataclass(frozen=True)
class Profile:
    """What was measured on one machine with one engine.

    exit_cuts: cut points of the early exits, shallow to deep. batches: rising batch sizes.
    preprocess: crop, resize, normalise and layout of a 1280x720 frame.
    """

    runtime: str
    exit_cuts: tuple[int, ...]
    batches: tuple[BatchProfile, ...]
    preprocess: Timing

    def __post_init__(self) -> None:
        sizes = [b.batch for b in self.batches]
        if not sizes or sizes != sorted(set(sizes)) or sizes[0] < 1:
            raise ValueError(f"batch sizes are {sizes}, expected rising ones from 1")
        segments = len(self.batches[0].segments)
        for b in self.batches:
            if len(b.segments) != segments or len(b.exits) != len(self.exit_cuts):
                raise ValueError(
                    f"batch {b.batch}: {len(b.segments)} segments and {len(b.exits)} exits, "
                    f"expected {segments} and {len(self.exit_cuts)}"
                )

    def expected_ms(self, pieces: Sequence[tuple[int, int]], exits: Collection[int] = (), *, batch: int = 1) -> float:
        """How long these pieces take one after the other on an idle machine, by the medians.

        Between two measured batch sizes, the time is interpolated; beyond them, it is proportional.

        Args:
            pieces: (first cut point, last cut point) of each graph. exits: cut points of the exits evaluated.
        """
        sizes = [b.batch for b in self.batches]
        if batch <= sizes[0]:
            return self._at(self.batches[0], pieces, exits) * batch / sizes[0]
        for low, high in zip(self.batches, self.batches[1:], strict=False):
            if batch <= high.batch:
                share = (batch - low.batch) / (high.batch - low.batch)
                return (1 - share) * self._at(low, pieces, exits) + share * self._at(high, pieces, exits)
        return self._at(self.batches[-1], pieces, exits) * batch / sizes[-1]

    def _at(self, row: BatchProfile, pieces: Sequence[tuple[int, int]], exits: Collection[int]) -> float:
        total = sum(row.call_ms + sum(t.median_ms for t in row.segments[a:b]) for a, b in pieces)
        return total + sum(t.median_ms for cut, t in zip(self.exit_cuts, row.exits, strict=True) if cut in exits)

    def slowed(self, factor: float) -> Profile:
        """The profile of a processor that takes `factor` times as long."""

        def times(timings: Sequence[Timing]) -> tuple[Timing, ...]:
            return tuple(Timing(t.median_ms * factor, t.p95_ms * factor) for t in timings)

        rows = tuple(BatchProfile(b.batch, times(b.segments), times(b.exits), b.call_ms * factor) for b in self.batches)
        return Profile(self.runtime, self.exit_cuts, rows, *times([self.preprocess]))

    def as_json(self) -> dict[str, Any]:
        """A dict of plain values, as `from_json` takes it."""
        return asdict(self)

    @classmethod
    def from_json(cls, values: Any) -> Profile:
        """Raises: ValueError: not what `as_json` gives."""
        try:
            return cls(
                runtime=str(values["runtime"]),
                exit_cuts=tuple(int(cut) for cut in values["exit_cuts"]),
                batches=tuple(
                    BatchProfile(
                        int(b["batch"]),
                        tuple(Timing(**t) for t in b["segments"]),
                        tuple(Timing(**t) for t in b["exits"]),
                        float(b["call_ms"]),
                    )
                    for b in values["batches"]
                ),
                preprocess=Timing(**values["preprocess"]),
            )
        except (KeyError, TypeError) as error:
            raise ValueError(f"not a profile: {error}") from error
