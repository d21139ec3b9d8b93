"""A stream's answer -> the pilot's."""

from __future__ import annotations

from collections.abc import Mapping

from spinn_drone.perception.classes import BLOCKED, HEADINGS, LABELS, Truth

from .pilot import Answer

HEADING_OF = dict(zip(LABELS, HEADINGS.tolist(), strict=True))


def answer_of(likely: Mapping[str, float], captured: float) -> Answer | None:
    """The pilot's answer for a picture captured at this time; None: there is no answer.

    likely: class -> probability, of the likeliest ones, as `Result.top` has them.
    """
    if not likely:
        return None
    directions = tuple((HEADING_OF[label], p) for label, p in likely.items() if label != BLOCKED)
    return Answer(captured, likely.get(BLOCKED, 0.0), directions)


def answer_of_rays(truth: Truth, captured: float) -> Answer:
    """The answer of rays, which know the place."""
    return Answer(
        captured, float(truth.is_blocked), tuple(zip(HEADINGS.tolist(), truth.probabilities.tolist(), strict=True))
    )
