"""How much slower a side runs now than its profile says."""

from __future__ import annotations

from collections import deque
from statistics import median

BLOCK_S = 0.125
"""Observations within one block are added up before they are compared: the operating system gives out the processor in
slices, so single runs are fast or slow, and only their sum shows the share."""

WINDOW_S = 1.0
STALE_S = 5.0
LEAST_BLOCKS = 3
SPARSE_BLOCKS = 2

STEP = 1.5
"""A step: each of the last `LEAST_BLOCKS` blocks is slower, or faster, than the median of all by more than this factor.
Then only these blocks count, so that a step is seen before half of the window is over."""


class LoadTracker:
    """Load factors by group: observed time over expected time, as a median over blocks of a second.

    A median of means (Lugosi and Mendelson 2019): one slow frame spoils one block of eight and changes nothing. A load
    that stays is seen when half of the blocks are under it, after about half a second; a large one after three blocks.
    If runs are too rare for that (of a server that is only probed, say), the smaller one of the last two counts: one
    quick run proves that a load is over, and one slow run proves nothing. A group is whatever runs as one, such as a
    piece of the network. Memory is bounded by the window.
    """

    def __init__(self) -> None:
        self._blocks: dict[object, deque[_Block]] = {}

    def observe(self, group: object, *, observed_ms: float, expected_ms: float, now: float) -> None:
        """One run took `observed_ms`; the profile says `expected_ms`. `now` is in seconds and never falls."""
        if expected_ms <= 0 or observed_ms < 0:
            return
        blocks = self._blocks.setdefault(group, deque(maxlen=round(WINDOW_S / BLOCK_S)))
        number = int(now / BLOCK_S)
        if not blocks or blocks[-1].number != number:
            blocks.append(_Block(number))
        blocks[-1].observed += observed_ms
        blocks[-1].expected += expected_ms

    def factor(self, now: float, group: object | None = None) -> float:
        """Load factor of one group, or of all together; 1.0 if too little is known or the last run is long ago."""
        found = self.recent(now, group)
        return 1.0 if found is None else found

    def recent(self, now: float, group: object | None = None) -> float | None:
        """The same, but None if too little is known or the last run is long ago.

        The window reaches back from the last observation, so a side that rests keeps its factor for a while.
        """
        chosen = list(self._blocks.values()) if group is None else [self._blocks.get(group, deque())]
        together: dict[int, _Block] = {}
        for blocks in chosen:
            for block in list(blocks):  # copies: another thread may be observing
                whole = together.setdefault(block.number, _Block(block.number))
                whole.observed += block.observed
                whole.expected += block.expected
        if not together:
            return None
        newest = max(together)
        ratios = {n: b.observed / b.expected for n, b in together.items() if now - n * BLOCK_S <= STALE_S}
        recent = [ratios[n] for n in sorted(ratios) if n > newest - WINDOW_S / BLOCK_S]
        if len(recent) >= LEAST_BLOCKS:
            usual, last = median(recent), recent[-LEAST_BLOCKS:]
            return median(last) if min(last) > STEP * usual or max(last) < usual / STEP else usual
        newest_ones = sorted(ratios)[-SPARSE_BLOCKS:]
        return min(ratios[n] for n in newest_ones) if len(newest_ones) == SPARSE_BLOCKS else None


class _Block:
    __slots__ = ("expected", "number", "observed")

    def __init__(self, number: int) -> None:
        self.number = number
        self.observed = 0.0
        self.expected = 0.0
