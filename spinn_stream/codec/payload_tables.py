"""Reads a bundle's payload tables: which settings keep the accuracy at a cut point, and their bytes."""

from __future__ import annotations

from collections.abc import Mapping

from spinn_stream.bundle import Bundle, PayloadRow

from .registry import CODECS
from .settings import CodecSetting

POINTS_LOST = 0.005
"""Accuracies of the final exit that differ by at most this count as equal: half a point."""


def uncoded(bundle: Bundle) -> Mapping[str, float]:
    """Accuracy of each exit on the tables' images without coding; empty: there are no tables."""
    lossless = {name for name, codec in CODECS.items() if codec.lossless}
    rows = [row for row in bundle.payloads if row.cut == 0 and row.codec.partition(":")[0] in lossless]
    return rows[0].accuracy if rows else {}


def smallest_row(bundle: Bundle, cut: int, points_lost: float = POINTS_LOST) -> PayloadRow | None:
    """The row of fewest bytes at a cut point that loses at most `points_lost`; None: there is none.

    Bytes are of pictures coded alone. How much changes since an earlier frame save depends on the content.
    """
    name = bundle.exits[-1].name
    whole = uncoded(bundle).get(name)
    if whole is None:
        return None
    good = [r for r in bundle.payloads if r.cut == cut and r.accuracy.get(name, 0.0) >= whole - points_lost]
    return min(good, key=lambda row: row.bytes_mean, default=None)


def frame_is_smaller(bundle: Bundle, cut: int, points_lost: float = POINTS_LOST) -> bool:
    """Whether the frame itself takes fewer bytes than this cut point's activation at equal accuracy.

    Such a cut point saves the network nothing (Neurosurgeon, ASPLOS 2017, section 3); it can still save the server
    work, or the device an exit.
    """
    frame, activation = smallest_row(bundle, 0, points_lost), smallest_row(bundle, cut, points_lost)
    if activation is None:
        return True
    return cut > 0 and frame is not None and frame.bytes_mean <= activation.bytes_mean


def setting_of(row: PayloadRow) -> CodecSetting:
    """The setting of a row. Raises CodecError: this program does not know it."""
    return CodecSetting.parse(row.codec)
