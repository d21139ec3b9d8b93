"""Figures of the flights: a row for each cell, and comparisons of policies over the forests that both flew through."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from .cells import CELLS, NETWORKS, POLICIES, Cell, cell_of
from .statistics import mcnemar, wilson
from .store import Row

Rows = Mapping[tuple[Cell, int], Row]

OURS, ORACLE = "spinn", cell_of("oracle", "")


def cell_rows(rows: Rows) -> list[dict[str, Any]]:
    """A row for each cell that was flown."""
    found = []
    for cell in CELLS:
        flown = [row for (of, _), row in sorted(rows.items(), key=lambda item: item[0][1]) if of == cell]
        if not flown:
            continue
        crashes, metres = sum(row.crashed for row in flown), sum(row.metres for row in flown)
        low, high = wilson(crashes, len(flown))
        found.append({
            "policy": cell.policy,
            "network": cell.network,
            "episodes": len(flown),
            "crashes": crashes,
            "crash_rate": round(crashes / len(flown), 4),
            "crash_rate_interval": [round(low, 4), round(high, 4)],
            "crashes_per_100m": round(100 * crashes / metres, 4),
            "out_of_time": sum(row.ending == "out of time" for row in flown),
            "mean_speed": round(metres / sum(row.seconds for row in flown), 3),
            "clearance_m": round(float(np.mean([row.clearance_m for row in flown])), 3),
            "age_p50_ms": round(float(np.median([row.age_p50_ms for row in flown])), 1),
            "age_p95_ms": round(float(np.median([row.age_p95_ms for row in flown])), 1),
        })  # fmt: skip
    return found


def comparisons(rows: Rows) -> list[dict[str, Any]]:
    """Ours and each other policy, over all networks together: McNemar's test over pairs of the same forest and network.

    Flights over one forest are counted once for each network; they are not quite independent. Those of the device alone
    are the same on every network, so each counts once for each network.
    """
    found = []
    for other in POLICIES:
        pairs = [
            (rows[Cell(OURS, network), seed].crashed, rows[cell_of(other, network), seed].crashed)
            for network in NETWORKS
            for (cell, seed) in sorted(rows, key=lambda item: item[1])
            if cell == Cell(OURS, network) and (cell_of(other, network), seed) in rows
        ]
        if other == OURS or not pairs:
            continue
        ours, theirs, p = mcnemar([a for a, _ in pairs], [b for _, b in pairs])
        found.append({
            "policy": other, "pairs": len(pairs), "crashes": sum(b for _, b in pairs),
            "crashes_of_ours": sum(a for a, _ in pairs), "ours_alone": ours, "other_alone": theirs, "p": round(p, 5),
        })  # fmt: skip
    return found


def beyond_oracle(rows: Rows) -> dict[str, float]:
    """By network: ours' crash rate less the oracle's over the same forests, in points of 100."""
    found = {}
    for network in NETWORKS:
        pairs = [
            (row.crashed, rows[ORACLE, seed].crashed)
            for (cell, seed), row in rows.items()
            if cell == Cell(OURS, network) and (ORACLE, seed) in rows
        ]
        if pairs:
            found[network] = round(100 * float(np.mean([a - b for a, b in pairs])), 2)
    return found
