"""Tables of a bundle, measured on held-out images: what the scheduler plans with."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from ..codec import SUPPORTED, codec_for, decode_payload, encode_payload
from ..frame import crop
from ..runtime.engine import Engine
from .bundle import Bundle, PayloadRow
from .calibration import Pixels, batches


def payload_table(
    bundle: Bundle,
    engine: Engine,
    pixels: Pixels,
    labels: npt.NDArray[np.int64],
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> list[PayloadRow]:
    """For each cut point that can be a split: bytes of a payload, and accuracy of every exit behind it.

    Activations at every cut point come from one pass over the images; each tail is run once, on what its codec
    gave back.

    Args:
        pixels: (N, H, W, 3) uint8, RGB. labels: (N,).
    """
    sizes: list[list[int]] = [[] for _ in range(bundle.last)]
    right: list[dict[str, int]] = [{} for _ in range(bundle.last)]
    done = 0
    for x in batches(bundle, pixels):
        own = labels[done : done + len(x)]
        pictures = [crop(p[:, :, ::-1], bundle.input.size) for p in pixels[done : done + len(x)]]
        y = x
        for cut in range(bundle.last):
            if cut:
                y, _ = engine.run(cut - 1, cut, y, exit=False)
            payloads = [encode_payload(cut, y[i : i + 1], pictures[i]) for i in range(len(y))]
            sizes[cut] += [len(p) for p in payloads]
            z = np.concatenate([decode_payload(bundle, cut, codec_for(cut), p) for p in payloads])
            for start, stop in bundle.pieces(cut, bundle.last):
                z, logits = engine.run(start, stop, z)
                if logits is not None:
                    name = bundle.exit_at[stop].name
                    right[cut][name] = right[cut].get(name, 0) + int((logits.argmax(axis=1) == own).sum())
        done += len(x)
        progress(done, len(pixels))
    rows = []
    for cut in range(bundle.last):
        codec = codec_for(cut)
        rows.append(
            PayloadRow(
                cut, f"{codec}:{SUPPORTED[codec]}", float(np.mean(sizes[cut])), float(np.percentile(sizes[cut], 95)),
                {name: count / done for name, count in right[cut].items()},
            )
        )  # fmt: skip
    return rows
