"""Makes all that a bundle needs besides its weights: temperatures, thresholds, the codec's bases and the tables."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from spinn_stream.bundle import Bundle, load_bundle
from spinn_stream.runtime import Engine, open_engine
from spinn_stream.train.data.images import LabelledImages

from .calibration import Logits, collect_logits, confidences, fit_temperature
from .codec_fit import MOST_IMAGES, fit_bases
from .evaluation import costs_of
from .export import complete, write_bases, write_payloads
from .tables import Uncoded, payload_table
from .thresholds import Scores, default_threshold, map_thresholds

PAYLOAD_IMAGES = 1000
"""Held-out images for the payload table: every tail runs over them once for each codec setting."""


def calibrate(
    folder: Path,
    held_out: LabelledImages,
    *,
    is_labelled: bool = True,
    payload_images: int = PAYLOAD_IMAGES,
    payloads_only: bool = False,
    say: Callable[[str], None],
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> None:
    """Fit temperatures, thresholds and the codec, and measure the tables of a bundle, on images not trained on.

    Args:
        is_labelled: without labels, the final exit's answer counts as right, and its temperature stays at 1.
        payload_images: number of images, the first ones, for the table of payloads.
        payloads_only: temperatures, thresholds and the codec stay; the table of payloads is measured anew.
        progress: called with the cut points done and how many there are; once for each table.
    """
    bundle = load_bundle(folder)
    engine: Engine = open_engine(bundle, "onnxruntime", threads=torch.get_num_threads())
    few = held_out.take(slice(0, payload_images))
    images = few if payloads_only else held_out
    if not payloads_only:
        say(f"fitting temperatures and thresholds on {len(images)} held-out images")
    logits = collect_logits(bundle, engine, images.pixels)
    if not is_labelled:
        images = LabelledImages(images.pixels, logits[-1].argmax(axis=1))
    if not payloads_only:
        _fit_thresholds(folder, bundle, logits, images.labels, is_labelled=is_labelled)
        others = images.take(slice(-MOST_IMAGES, None)) if len(images) > payload_images + MOST_IMAGES else images
        say(f"fitting the codec on {min(len(others), MOST_IMAGES)} of them")
        write_bases(folder, fit_bases(bundle, engine, others.pixels, progress))
        bundle = load_bundle(folder)
    say(f"measuring payloads and tails on {len(few)} of {len(held_out)} held-out images")
    uncoded = Uncoded(
        logits[:, : len(few)], images.labels[: len(few)], tuple(e.temperature for e in bundle.exits),
        [row.needed for row in bundle.thresholds],
    )  # fmt: skip
    write_payloads(folder, bundle, payload_table(bundle, engine, few.pixels, uncoded, progress), len(few))


def _fit_thresholds(
    folder: Path, bundle: Bundle, logits: Logits, labels: npt.NDArray[np.int64], *, is_labelled: bool
) -> None:
    """Write temperatures and thresholds first, so that the bundle is whole even if the longest part is interrupted."""
    fitted = [fit_temperature(exit_logits, labels) for exit_logits in logits]
    temperatures = tuple(fitted if is_labelled else [*fitted[:-1], 1.0])
    rows = map_thresholds(Scores(*confidences(logits, temperatures, labels), costs_of(bundle)), len(bundle.exits) - 1)
    complete(
        folder, bundle, temperatures=temperatures, rows=rows, payloads=[], default_threshold=default_threshold(rows),
        provenance={"tables": {"thresholds_on": len(labels)}},
    )  # fmt: skip
