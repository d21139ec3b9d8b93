"""Shares with intervals, and whether two policies that flew the same forests differ."""

from __future__ import annotations

import math
from collections.abc import Sequence

Z = 1.959964
"""Of a 95 % interval."""


def wilson(hits: int, count: int) -> tuple[float, float]:
    """95 % interval of a share (Wilson, JASA 22, 1927). (0, 1) if there is nothing to tell from.

    >>> [round(x, 3) for x in wilson(3, 100)]
    [0.01, 0.085]
    """
    if not count:
        return 0.0, 1.0
    share, z2 = hits / count, Z * Z
    middle = (share + z2 / (2 * count)) / (1 + z2 / count)
    half = Z * math.sqrt(share * (1 - share) / count + z2 / (4 * count * count)) / (1 + z2 / count)
    return max(0.0, middle - half), min(1.0, middle + half)


def mcnemar(one: Sequence[bool], other: Sequence[bool]) -> tuple[int, int, float]:
    """For pairs: counts of only `one` and of only `other`, and the two-sided exact p of McNemar's test.

    >>> mcnemar([True] * 6 + [False] * 4, [False] * 10)
    (6, 0, 0.03125)
    """
    first = sum(a and not b for a, b in zip(one, other, strict=True))
    second = sum(b and not a for a, b in zip(one, other, strict=True))
    count = first + second
    tail = sum(math.comb(count, k) for k in range(min(first, second) + 1)) / 2**count if count else 1.0
    return first, second, min(1.0, 2 * tail)


def falanga_speed(latency_s: float, sight_m: float, aside_m: float, acceleration: float) -> float:
    """Fastest safe speed in m/s of a robot that cannot slow down, after Falanga, Kim and Scaramuzza (RA-L 4, 2019).

    An obstacle comes into sight at `sight_m`. After the latency, the robot moves `aside_m` to the side at full
    acceleration, which takes sqrt(2 aside / acceleration). It goes on all that time.
    """
    return sight_m / (latency_s + math.sqrt(2 * aside_m / acceleration))
