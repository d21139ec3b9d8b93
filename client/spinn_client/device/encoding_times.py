"""How long encoding takes on this device, learned from its first frames, since the codecs' constants are of another
machine."""

from __future__ import annotations

from collections.abc import Mapping
from statistics import median

from spinn_stream.bundle import Bundle
from spinn_stream.codec import CodecSetting

FRAMES = 40
"""Payloads of a codec that are timed; their median stays."""


class EncodingTimes:
    """By codec: encoding time here over that by the codec's constants."""

    def __init__(self, bundle: Bundle) -> None:
        self._elements = [cut.elements for cut in bundle.cut_points]
        self._seen: dict[str, list[float]] = {}
        self.factors: Mapping[str, float] = {}  # of the codecs that are known; another object when one joins

    def learn(self, setting: CodecSetting, cut: int, ms: float, *, load: float) -> None:
        """One activation at this cut point (0: a frame) took `ms` under this load, which is divided out."""
        if setting.codec in self.factors:
            return
        seen = self._seen.setdefault(setting.codec, [])
        seen.append(ms / load / setting.kind.cost.ms(self._elements[cut])[0])
        if len(seen) == FRAMES:
            self.factors = {**self.factors, setting.codec: median(seen)}

    def expected_ms(self, setting: CodecSetting, cut: int) -> float | None:
        """Expected time; None: not known yet."""
        factor = self.factors.get(setting.codec)
        return None if factor is None else factor * setting.kind.cost.ms(self._elements[cut])[0]
