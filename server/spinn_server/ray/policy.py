"""How many replicas there should be: by how busy they are and how long requests wait, not by connections."""

from __future__ import annotations

import math
from collections.abc import Collection
from typing import Any

BUSY, QUEUE_MS = "busy", "queue_ms"
"""What a replica records: the share of its time in which the engine ran, and the median queueing delay."""

TARGET_BUSY = 0.7
"""Waits grow steeply above three quarters of the capacity."""

LONG_WAIT_MS = 30.0
"""A fifth of a usual budget. If requests wait longer, one more replica is wanted, however busy they seem."""


def wanted(current: int, busy: Collection[float], queue_ms: Collection[float], least: int, most: int) -> int:
    """The number of replicas that is wanted.

    Args:
        busy, queue_ms: of the replicas that have reported; if there are none, nothing changes.
    """
    if not busy:
        return min(max(current, least), most)
    enough = math.ceil(current * sum(busy) / len(busy) / TARGET_BUSY)
    if queue_ms and sum(queue_ms) / len(queue_ms) > LONG_WAIT_MS:
        enough = max(enough, current + 1)
    return min(max(enough, least), most)


def scale(ctx: Any) -> tuple[int, dict[str, Any]]:
    """Ray Serve's custom policy (`ray.serve.config.AutoscalingPolicy`): number of replicas, and no state."""
    found = ctx.aggregated_metrics or {}
    number = wanted(
        ctx.current_num_replicas,
        list(found.get(BUSY, {}).values()),
        list(found.get(QUEUE_MS, {}).values()),
        ctx.capacity_adjusted_min_replicas,
        ctx.capacity_adjusted_max_replicas,
    )
    return number, {}
