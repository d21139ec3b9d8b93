"""Tables of a bundle, measured on held-out images: what the scheduler plans with."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from ..codec import CodecSetting, cnn_co, decode_payload, encode_payload, transform
from ..frame import crop
from ..runtime.engine import Engine
from .bundle import Bundle, PayloadRow
from .calibration import Pixels, batches

PART = 50  # images run at once

JPEG_QUALITIES = (30, 50, 70, 85, 95, 100)


def settings_of(bundle: Bundle, cut: int) -> list[CodecSetting]:
    """The codec settings that a plan may choose from at a cut point."""
    if cut == 0:
        return [*(CodecSetting("jpeg", quality) for quality in JPEG_QUALITIES), CodecSetting("png", None)]
    fitted = [CodecSetting(transform.NAME, bits) for bits in transform.BITS] if bundle.has_basis(cut) else []
    return [*fitted, CodecSetting(cnn_co.NAME, 4), CodecSetting(cnn_co.NAME, 8)]


def payload_table(
    bundle: Bundle,
    engine: Engine,
    pixels: Pixels,
    labels: npt.NDArray[np.int64],
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> list[PayloadRow]:
    """For each cut point that can be a split and each codec setting: bytes, and accuracy of every exit behind it.

    Each picture is coded alone: what coding changes saves, the content of a camera decides.

    Args:
        pixels: (N, H, W, 3) uint8, RGB. labels: (N,).
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
            right: dict[str, int] = {}
            for i in range(0, len(payloads), PART):
                z = np.concatenate([decode_payload(bundle, cut, setting.codec, p) for p in payloads[i : i + PART]])
                own = labels[i : i + PART]
                for start, stop in bundle.pieces(cut, bundle.last):
                    z, output = engine.run(start, stop, z)
                    if output is not None:
                        name = bundle.exit_at[stop].name
                        right[name] = right.get(name, 0) + int((output.logits.argmax(axis=1) == own).sum())
            accuracy = {name: count / len(pixels) for name, count in right.items()}
            mean, most = float(np.mean(sizes)), float(np.percentile(sizes, 95))
            rows.append(PayloadRow(cut, str(setting), mean, most, accuracy))
        progress(cut + 1, bundle.last)
    return rows
