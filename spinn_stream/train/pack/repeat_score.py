"""What the repeat exit would do on a clip, the whole network run on all other frames."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from spinn_stream.bundle import Bundle
from spinn_stream.repeat import Repeats
from spinn_stream.runtime.engines.base import ExitOutput
from spinn_stream.runtime.exits import answers

from .calibration import Logits, Pixels


@dataclass(frozen=True)
class RepeatScore:
    """repeated: share of the frames that get the answer of an earlier one; audits count, though the network runs.

    macs_fraction: multiply-adds over those of the whole network on every frame. agreement: share of the frames whose
    label is the network's. audits, disagreed: how many repeats were audited, and how many of these had another label.
    """

    repeated: float
    macs_fraction: float
    agreement: float
    audits: int
    disagreed: int


def score_repeats(bundle: Bundle, pixels: Pixels, logits: Logits, fps: float) -> RepeatScore:
    """Play a clip, each frame answered before the next one comes.

    Args:
        pixels: (N, H, W, 3) uint8, RGB, as a device prepares them. logits: (exits, N, classes), the final exit last.
        fps: frames a second.
    """
    repeats, final = Repeats(), bundle.exits[-1]
    repeated = run = agreed = 0
    for frame, (picture, row) in enumerate(zip(pixels, logits[-1], strict=True)):
        look = repeats.look(frame, picture, frame / fps)
        repeated += look.answer is not None
        agreed += look.answer is None or look.answer.label == int(np.argmax(row))
        if look.answer is None or look.audit:
            run += 1
            repeats.answered(frame, answers(final.name, ExitOutput(row[None], None), final.temperature)[0])
    count = len(pixels)
    return RepeatScore(repeated / count, run / count, agreed / count, repeats.audits, repeats.disagreed)
