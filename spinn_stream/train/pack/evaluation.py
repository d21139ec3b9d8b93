"""Scores a bundle on images: each exit, its calibration, and the curve of thresholds.

Without labels, the final exit's answer counts as right, so every accuracy is agreement with it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from spinn_stream.bundle import Bundle
from spinn_stream.runtime.engines.base import Engine

from .calibration import Pixels, calibration_error, collect_logits, confidences
from .repeat_score import RepeatScore, score_repeats
from .thresholds import Costs, Row, Scores


@dataclass(frozen=True)
class ExitScore:
    """One exit on all images. macs_fraction: backbone up to it and its own head, over the whole backbone.

    agreement: share of the images on which it agrees with the final exit. top1, ece: share of right answers, and
    calibration error; None without labels.
    """

    name: str
    macs_fraction: float
    agreement: float
    top1: float | None
    ece: float | None


@dataclass(frozen=True)
class Evaluation:
    """Every exit, the final one last, and the outcome of each threshold of the bundle on these images.

    is_labelled: without labels, the outcomes' accuracy is agreement with the final exit. repeats: of the frames of one
    camera; None: they are none.
    """

    images: int
    exits: tuple[ExitScore, ...]
    rows: tuple[Row, ...]
    is_labelled: bool = True
    repeats: RepeatScore | None = None

    def as_json(self) -> dict[str, Any]:
        """Fractions from 0 to 1 (mean_macs_fraction may exceed 1 by the heads); what was not asked for is missing."""
        return {
            "images": self.images,
            **({"final_top1": self.exits[-1].top1} if self.is_labelled else {}),
            "exits": [{k: v for k, v in asdict(e).items() if v is not None} for e in self.exits],
            "thresholds": [
                {
                    "threshold": r.threshold, self.measure: r.outcome.accuracy,
                    "mean_macs_fraction": r.outcome.mean_macs_fraction, "share": list(r.outcome.share),
                    "needed": list(r.needed),
                }
                for r in self.rows
            ],
            **({"repeats": asdict(self.repeats)} if self.repeats is not None else {}),
        }  # fmt: skip

    @property
    def measure(self) -> str:
        """The name of the outcomes' accuracy."""
        return "accuracy" if self.is_labelled else "agreement"


def costs_of(bundle: Bundle) -> Costs:
    """Shares of the backbone's multiply-adds."""
    whole = max(1, bundle.cut_points[-1].macs)
    early = bundle.exits[:-1]
    return Costs(tuple(bundle.cut_points[e.cut].macs / whole for e in early), tuple(e.macs / whole for e in early))


def evaluate(
    bundle: Bundle,
    engine: Engine,
    pixels: Pixels,
    labels: npt.NDArray[np.int64] | None,
    progress: Callable[[int], None] = lambda done: None,
    *,
    fps: float | None = None,
) -> Evaluation:
    """Run the bundle over the images as a client and a server would, uncoded, and score every exit.

    Args:
        pixels: (N, H, W, 3) uint8, RGB. labels: (N,), indices into the bundle's labels; None: there are none.
        fps: the images are the frames of one camera, as a device prepares them, at this rate; None: they are not.
    """
    logits = collect_logits(bundle, engine, pixels, progress)
    answers = logits.argmax(axis=2)
    is_labelled = labels is not None
    labels = answers[-1] if labels is None else labels
    sure, right = confidences(logits, tuple(e.temperature for e in bundle.exits), labels)
    costs = costs_of(bundle)
    fractions = [b + h for b, h in zip(costs.backbone, costs.heads, strict=True)] + [1.0]
    exits = tuple(
        ExitScore(
            e.name,
            fraction,
            float((answer == answers[-1]).mean()),
            *((float(r.mean()), calibration_error(c, r)) if is_labelled else (None, None)),
        )
        for e, fraction, answer, c, r in zip(bundle.exits, fractions, answers, sure, right, strict=True)
    )
    scores = Scores(sure, right, costs)
    rows = tuple(Row(r.threshold, r.needed, scores.play(r.needed)) for r in bundle.thresholds)
    repeats = None if fps is None else score_repeats(bundle, pixels, logits, fps)
    return Evaluation(len(labels), exits, rows, is_labelled, repeats)
