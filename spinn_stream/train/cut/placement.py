"""The default places of exits: at equal distances of multiply-adds along the backbone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from spinn_stream.errors import ConfigError


class Place(Protocol):
    """What placement knows of a cut point."""

    @property
    def name(self) -> str: ...
    @property
    def shape(self) -> tuple[int, ...]: ...
    @property
    def macs(self) -> int: ...


def fits_exit(shape: tuple[int, ...]) -> bool:
    """Whether an exit head fits a cut point of this shape: it needs maps (C, H, W) of 2x2 or more."""
    return len(shape) == 3 and min(shape[1:]) >= 2


def place_exits(cuts: Sequence[Place], count: int, *, low: float = 0.15, high: float = 0.90) -> list[str]:
    """Names of the `count` cut points nearest to equally spaced shares of the multiply-adds.

    The wanted shares run from `low` to `high`, both included (half-way between for a single exit). Only cut points that
    an exit head fits (`fits_exit`) qualify, and never the input or the last one. No cut point is taken twice. The
    choice has the smallest sum of distances to the wanted shares; of equal ones, the shallower.

    Args:
        cuts: in order, the input first and the logits last, as `trace_backbone` finds them.
        low, high: shares of all multiply-adds, 0 to 1.

    Returns:
        Names, shallow to deep.

    Raises:
        ConfigError: fewer cut points qualify than exits are wanted, or a value is out of range.
    """
    if count < 1:
        raise ConfigError(f"exits: got {count}, expected 1 or more")
    if not 0 <= low <= high <= 1 or (count > 1 and low == high):
        raise ConfigError(f"exits between {low} and {high} of the multiply-adds: expected 0 <= low < high <= 1")
    total = cuts[-1].macs if cuts else 0
    fit = [cut for cut in cuts[1:-1] if fits_exit(cut.shape)]
    if len(fit) < count or total <= 0:
        raise ConfigError(
            f"{count} exits do not fit: {len(fit)} cut points of this network have maps (C, H, W) for an exit head; "
            f"ask for at most {len(fit)}"
            + (f", of {', '.join(cut.name for cut in fit)}" if fit else "; it has no such place")
        )
    step = (high - low) / (count - 1) if count > 1 else 0.0
    wanted = [low + step * i if count > 1 else (low + high) / 2 for i in range(count)]
    shares = [cut.macs / total for cut in fit]

    # best[j]: the smallest sum for the exits so far where the last one is at place j, and their places.
    best: list[tuple[float, tuple[int, ...]]] = [(abs(share - wanted[0]), (j,)) for j, share in enumerate(shares)]
    for i in range(1, count):
        row: list[tuple[float, tuple[int, ...]]] = []
        before: tuple[float, tuple[int, ...]] = (float("inf"), ())
        for j, share in enumerate(shares):
            row.append((before[0] + abs(share - wanted[i]), (*before[1], j)))
            before = min(before, best[j])
        best = row
    return [fit[j].name for j in min(best)[1]]
