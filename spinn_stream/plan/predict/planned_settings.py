"""Which settings of a cut point are worth planning with, and the accuracy that they cost."""

from __future__ import annotations

from collections.abc import Mapping

from spinn_stream.bundle import Bundle, PayloadRow
from spinn_stream.codec.payload_tables import smallest_row, uncoded
from spinn_stream.codec.registry import CODECS

MOST_LOST = 0.1
"""Settings that lose more of the final exit's accuracy are not planned with."""

CHANCE = 0.003
"""Losses that differ by less are equal: the tables are of a thousand images."""


def losses(whole: Mapping[str, float], row: PayloadRow) -> dict[str, float]:
    """The accuracy that a setting costs each exit behind it; gains are chance and count 0. whole: as of `uncoded`."""
    return {name: max(0.0, whole[name] - found) for name, found in row.accuracy.items() if name in whole}


def planned_settings(bundle: Bundle, cut: int) -> list[PayloadRow]:
    """The rows of a cut point that the scheduler chooses among, fewest bytes first.

    Those that no other beats both in bytes and in every exit's loss (chance apart), and the smallest without loss.
    """
    final, whole = bundle.exits[-1].name, uncoded(bundle)
    usable = {name for name, codec in CODECS.items() if codec.usable(bundle, cut)}  # the tables may name later ones
    rows = [row for row in bundle.payloads if row.cut == cut and row.codec.partition(":")[0] in usable]
    rows.sort(key=lambda r: (r.bytes_mean, r.codec))
    rows = [r for r in rows if losses(whole, r).get(final, 0.0) <= MOST_LOST] or rows[-1:]
    keeps, chosen = smallest_row(bundle, cut), list[PayloadRow]()

    def as_good(smaller: PayloadRow, row: PayloadRow) -> bool:
        lost = losses(whole, row)
        return all(loss <= lost.get(name, 0.0) + CHANCE for name, loss in losses(whole, smaller).items())

    for row in rows:
        if row is keeps or not any(as_good(smaller, row) for smaller in chosen):
            chosen.append(row)
    return chosen
