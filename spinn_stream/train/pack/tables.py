"""Tables of a bundle, measured on held-out images: what the scheduler plans with."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from spinn_stream.bundle import Bundle, PayloadRow
from spinn_stream.codec import CODECS, CodecSetting, decode_payload, encode_payload
from spinn_stream.frame import crop
from spinn_stream.runtime.engines.base import Engine

from .calibration import Logits, Pixels, batches, confidences
from .evaluation import costs_of
from .thresholds import Needed, Scores

PART = 50  # images run at once


def settings_of(bundle: Bundle, cut: int) -> list[CodecSetting]:
    """The codec settings that a plan may choose from at a cut point."""
    usable = [codec for codec in CODECS.values() if codec.usable(bundle, cut)]
    return [CodecSetting(codec.name, quality) for codec in usable for quality in codec.table_qualities]


@dataclass(frozen=True)
class Uncoded:
    """Every exit's answers to the images without coding, and the right answers.

    logits: (exits, N, classes), the final exit last. labels: (N,). temperatures: one per exit. needs: of each threshold
    that the bundle has a row for.
    """

    logits: Logits
    labels: npt.NDArray[np.int64]
    temperatures: tuple[float, ...]
    needs: Sequence[Needed]

    def lost(self, bundle: Bundle, cut: int, coded: Mapping[str, Logits]) -> tuple[float, ...]:
        """The loss of accuracy under each threshold if the images that no exit up to `cut` answers are coded there.

        Those are the harder images, and each threshold has others.

        Args:
            coded: (N, classes) logits of each exit behind the cut point, by its name, after coding.
        """
        plain = self._scores(bundle, self.logits)
        there = np.stack([coded.get(e.name, own) for e, own in zip(bundle.exits, self.logits, strict=True)])
        behind = self._scores(bundle, there)
        return tuple(plain.play(needed).accuracy - behind.play(needed).accuracy for needed in self.needs)

    def _scores(self, bundle: Bundle, logits: Logits) -> Scores:
        return Scores(*confidences(logits, self.temperatures, self.labels), costs_of(bundle))


def payload_table(
    bundle: Bundle,
    engine: Engine,
    pixels: Pixels,
    uncoded: Uncoded,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> list[PayloadRow]:
    """For each cut point that can be a split and each codec setting: bytes, and accuracy of every exit behind it.

    Each picture is coded alone. How much changes save depends on a camera's content.

    Args:
        pixels: (N, H, W, 3) uint8, RGB. uncoded: of the same images.
    """
    pictures = [crop(p[:, :, ::-1], bundle.input.size) for p in pixels]
    y = np.concatenate(list(batches(bundle, pixels)))
    rows: list[PayloadRow] = []
    for cut in range(bundle.last):
        if cut:
            y = np.concatenate(
                [
                    engine.run(cut - 1, cut, part, exit=False)[0].copy()
                    for part in np.split(y, range(PART, len(y), PART))
                ]
            )
        for setting in settings_of(bundle, cut):
            payloads = [encode_payload(bundle, cut, setting, x[None], p) for x, p in zip(y, pictures, strict=True)]
            sizes = [len(p) for p in payloads]
            coded = decoded_logits(bundle, engine, cut, setting, payloads)
            accuracy = {name: float((own.argmax(axis=1) == uncoded.labels).mean()) for name, own in coded.items()}
            mean, most = float(np.mean(sizes)), float(np.percentile(sizes, 95))
            rows.append(PayloadRow(cut, str(setting), mean, most, accuracy, uncoded.lost(bundle, cut, coded)))
        progress(cut + 1, bundle.last)
    return rows


def decoded_logits(
    bundle: Bundle, engine: Engine, cut: int, setting: CodecSetting, payloads: Sequence[bytes]
) -> dict[str, Logits]:
    """(N, classes) logits of each exit behind a cut point, by its name, for these payloads."""
    found: dict[str, list[Logits]] = {}
    for i in range(0, len(payloads), PART):
        z = np.concatenate([decode_payload(bundle, cut, setting.codec, p) for p in payloads[i : i + PART]])
        for start, stop in bundle.pieces(cut, bundle.last):
            z, output = engine.run(start, stop, z)
            if output is not None:
                found.setdefault(bundle.exit_at[stop].name, []).append(output.logits.copy())
    return {name: np.concatenate(parts) for name, parts in found.items()}
