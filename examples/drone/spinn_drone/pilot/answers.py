"""From what a stream says of a picture to what the pilot goes by."""

from __future__ import annotations

from collections.abc import Mapping

from spinn_drone.perception.classes import BLOCKED, HEADINGS, LABELS, Truth

from .pilot import Answer

HEADING_OF = dict(zip(LABELS, HEADINGS.tolist(), strict=True))


def answer_of(likely: Mapping[str, float], captured: float) -> Answer | None:
    """What a network says of a picture captured at this time; None: nothing, as there was no answer.

    likely: class -> probability, of the likeliest ones, as `Result.top` has them.
    """
    if not likely:
        return None
    directions = tuple((HEADING_OF[label], p) for label, p in likely.items() if label != BLOCKED)
    return Answer(captured, likely.get(BLOCKED, 0.0), directions)


def answer_of_rays(truth: Truth, captured: float) -> Answer:
    """What somebody would say who knows the place."""
    return Answer(
        captured, float(truth.is_blocked), tuple(zip(HEADINGS.tolist(), truth.probabilities.tolist(), strict=True))
    )
