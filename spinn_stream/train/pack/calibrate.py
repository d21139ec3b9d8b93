"""What a bundle needs besides its weights: temperatures, thresholds, the codec's bases and the tables."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch

from spinn_stream.bundle import load_bundle
from spinn_stream.runtime import Engine, open_engine
from spinn_stream.train.data.images import LabelledImages

from .calibration import collect_logits, confidences, fit_temperature
from .codec_fit import MOST_IMAGES, fit_bases
from .evaluation import costs_of
from .export import complete, write_bases, write_payloads
from .tables import Uncoded, payload_table
from .thresholds import Scores, default_threshold, map_thresholds

PAYLOAD_IMAGES = 1000
"""Held-out images that the payload table is measured on: every tail runs over them once a codec setting."""


def calibrate(
    folder: Path,
    held_out: LabelledImages,
    *,
    is_labelled: bool = True,
    payload_images: int = PAYLOAD_IMAGES,
    say: Callable[[str], None],
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> None:
    """Fit temperatures, thresholds and the codec, and measure the tables of a bundle, on images not trained on.

    Args:
        is_labelled: else what the final exit answers is what is right, and its own temperature stays at 1.
        payload_images: that the table of payloads is measured on, the first ones.
        progress: called with the cut points done and how many there are; twice, for fitting and measuring.
    """
    bundle = load_bundle(folder)
    engine: Engine = open_engine(bundle, "onnxruntime", threads=torch.get_num_threads())
    say(f"fitting temperatures and thresholds on {len(held_out)} held-out images")
    logits = collect_logits(bundle, engine, held_out.pixels)
    if not is_labelled:
        held_out = LabelledImages(held_out.pixels, logits[-1].argmax(axis=1))
    fitted = [fit_temperature(exit_logits, held_out.labels) for exit_logits in logits]
    temperatures = tuple(fitted if is_labelled else [*fitted[:-1], 1.0])
    sure, right = confidences(logits, temperatures, held_out.labels)
    scores = Scores(sure, right, costs_of(bundle))
    rows = map_thresholds(scores, len(bundle.exits) - 1)
    complete(  # what it has is whole then, should the rest, which takes longest, be broken off
        folder, bundle, temperatures=temperatures, rows=rows, payloads=[],
        default_threshold=default_threshold(rows, scores.accuracy()),
        provenance={"tables": {"thresholds_on": len(held_out)}},
    )  # fmt: skip
    few = held_out.take(slice(0, payload_images))
    others = held_out.take(slice(-MOST_IMAGES, None)) if len(held_out) > payload_images + MOST_IMAGES else held_out
    say(f"fitting the codec on {min(len(others), MOST_IMAGES)} of them")
    write_bases(folder, fit_bases(bundle, engine, others.pixels, progress))
    bundle = load_bundle(folder)
    say(f"measuring payloads and tails on {len(few)} of them")
    uncoded = Uncoded(logits[:, : len(few)], few.labels, temperatures, [row.needed for row in rows])
    write_payloads(folder, bundle, payload_table(bundle, engine, few.pixels, uncoded, progress), len(few))


def measure_payloads(
    folder: Path,
    held_out: LabelledImages,
    *,
    is_labelled: bool = True,
    payload_images: int = PAYLOAD_IMAGES,
    say: Callable[[str], None],
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> None:
    """Measure the table of payloads of a bundle anew; temperatures, thresholds and the codec stay.

    Args:
        is_labelled, payload_images: see `calibrate`.
        progress: called with the cut points done and how many there are.
    """
    bundle = load_bundle(folder)
    engine: Engine = open_engine(bundle, "onnxruntime", threads=torch.get_num_threads())
    few = held_out.take(slice(0, payload_images))
    say(f"measuring payloads and tails on {len(few)} of {len(held_out)} held-out images")
    logits = collect_logits(bundle, engine, few.pixels)
    temperatures, needs = tuple(e.temperature for e in bundle.exits), [row.needed for row in bundle.thresholds]
    labels = few.labels if is_labelled else logits[-1].argmax(axis=1)
    payloads = payload_table(bundle, engine, few.pixels, Uncoded(logits, labels, temperatures, needs), progress)
    write_payloads(folder, bundle, payloads, len(few))
