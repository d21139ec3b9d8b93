"""What coding costs, and which settings of a cut point are worth planning with."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from spinn_stream.bundle import Bundle, PayloadRow
from spinn_stream.codec.payload_tables import smallest_row
from spinn_stream.codec.settings import SUPPORTED, CodecSetting
from spinn_stream.errors import CodecError


@dataclass(frozen=True)
class CodecCost:
    """Milliseconds of one thread that is not disturbed: on the device, and on the server."""

    encode_ms: float
    decode_ms: float


_LINES: dict[str, tuple[float, float, float, float]] = {
    # codec: ms to encode at all and for each million numbers, ms to decode at all and for each million numbers
    "transform": (0.065, 19.7, 0.026, 31.9),  # key frames of 5,632 and 15,680 numbers, benchmarks/results/codec.json
    "cnn-co": (0.013, 4.3, 0.007, 5.4),  # 8 bits, 5,632 to 24,576 numbers, docs/scheduler.md
    "jpeg": (0.0, 1.75, 0.0, 2.3),  # quality 95 of 128 x 128, benchmarks/results/frame_payload.json
    "png": (0.0, 10.9, 0.0, 6.6),  # the same
}
"""One core of the x86 that the results in benchmarks/ were measured on; the load factors scale them."""

MOST_SETTINGS = 5
"""For each cut point; four or more are planned with where a bundle's tables have so many."""

LEAST_SETTINGS = 4

MOST_LOST = 0.1
"""A setting that loses more of the final exit's accuracy is of no use."""

CHANCE = 0.003
"""Losses that differ by less are equal: the tables are of a thousand images."""


def default_cost(setting: CodecSetting, elements: int) -> CodecCost:
    """What coding so many numbers takes by the constants above."""
    encode, encode_each, decode, decode_each = _LINES[setting.codec]
    return CodecCost(encode + encode_each * elements * 1e-6, decode + decode_each * elements * 1e-6)


def uncoded(bundle: Bundle) -> Mapping[str, float]:
    """Accuracy of each exit without a codec, on the images of the payload tables; empty: there are no tables."""
    rows = [row for row in bundle.payloads if row.cut == 0 and row.codec == "png"]
    return rows[0].accuracy if rows else {}


def losses(whole: Mapping[str, float], row: PayloadRow) -> dict[str, float]:
    """What a setting costs each exit behind it of its accuracy; gains are chance and count as nothing.

    Args:
        whole: as of `uncoded`.
    """
    return {name: max(0.0, whole[name] - found) for name, found in row.accuracy.items() if name in whole}


def planned_settings(bundle: Bundle, cut: int) -> list[PayloadRow]:
    """The rows of a cut point that the scheduler chooses among, fewest bytes first.

    Those that no other one beats in bytes and, chance apart, in every exit's loss. Of more than `MOST_SETTINGS`, the
    one goes whose neighbours' bytes are closest to each other; the smallest that keeps the accuracy always stays. Of
    fewer than `LEAST_SETTINGS`, the next ones by bytes join.
    """
    final, whole = bundle.exits[-1].name, uncoded(bundle)
    rows = [r for r in bundle.payloads if r.cut == cut and _usable(bundle, r)]
    rows.sort(key=lambda r: (r.bytes_mean, r.codec))
    rows = [r for r in rows if losses(whole, r).get(final, 0.0) <= MOST_LOST] or rows[-1:]
    chosen: list[PayloadRow] = []
    for row in rows:
        if not any(_as_good(losses(whole, c), losses(whole, row)) for c in chosen):
            chosen.append(row)
    keeps = smallest_row(bundle, cut)
    if keeps in rows and keeps not in chosen:
        chosen.append(keeps)
    for row in rows:
        if len(chosen) < LEAST_SETTINGS and row not in chosen:
            chosen.append(row)
    chosen.sort(key=lambda r: (r.bytes_mean, r.codec))
    while len(chosen) > MOST_SETTINGS:
        inner = [i for i in range(1, len(chosen) - 1) if chosen[i] is not keeps]
        gaps = [chosen[i + 1].bytes_mean / max(chosen[i - 1].bytes_mean, 1e-9) for i in inner]
        chosen.pop(inner[gaps.index(min(gaps))])
    return chosen


def guessed_bytes(bundle: Bundle, cut: int, setting: CodecSetting) -> float:
    """Where a bundle has no tables: as many bits as the setting has, JPEG's at two bits a pixel."""
    elements = bundle.cut_points[cut].elements
    bits = 8 if setting.quality is None else setting.quality
    return math.ceil(elements / 12 if setting.of_frames else elements * bits / 8)


def _usable(bundle: Bundle, row: PayloadRow) -> bool:
    try:
        setting = CodecSetting.parse(row.codec)
        setting.check_split(row.cut)
    except CodecError:  # a bundle of a later program
        return False
    return setting.codec in SUPPORTED and (setting.codec != "transform" or bundle.has_basis(row.cut))


def _as_good(one: Mapping[str, float], other: Mapping[str, float]) -> bool:
    return all(loss <= other.get(name, 0.0) + CHANCE for name, loss in one.items())
