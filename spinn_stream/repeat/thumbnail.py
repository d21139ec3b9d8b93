"""What two frames are compared by."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from spinn_stream.frame import Pixels, reduced

SIDE = 32
"""Pixels. An object of a hundredth of the picture fills 10 of its 1,024: one that is 0.2 lighter than what was there
moves the distance by 0.02, more than any repeat allows."""

Thumbnail = npt.NDArray[np.float32]
"""(SIDE * SIDE * 3,), 0 to 1."""


def thumbnail(picture: Pixels) -> Thumbnail:
    """The mean colours of a prepared picture, (size, size, 3) uint8, as `frame.crop` gives it."""
    return reduced(picture, SIDE).astype(np.float32).ravel() / np.float32(255)


def distance(one: Thumbnail, other: Thumbnail) -> float:
    """Root mean square difference, 0 to 1."""
    difference = one - other
    return float(np.sqrt(difference @ difference / len(difference)))
