"""The small interface that every engine fills."""

from __future__ import annotations

from typing import Protocol

import numpy as np
import numpy.typing as npt

Activation = npt.NDArray[np.float32]
"""A batch of activations at a cut point: (B, *cut_point.shape), float32, C order."""


class Engine(Protocol):
    """Runs a bundle from one cut point to another. Called from one thread at a time."""

    name: str

    def prepare(self, start: int, stop: int, *, exit: bool = True) -> None:
        """Build what `run(start, stop, ..., exit=exit)` needs, so that its first call is as fast as the next."""

    def run(
        self, start: int, stop: int, x: Activation, *, exit: bool = True
    ) -> tuple[Activation, npt.NDArray[np.float32] | None]:
        """From cut point `start` to `stop`; exits strictly between them are not computed.

        Args:
            x: activations at `start`, (B, *shape).
            exit: compute the logits of the exit at `stop`, if there is one; False: None is returned instead.
                At the last cut point it changes nothing: the activation there is the final exit's logits.

        Returns:
            Activations at `stop`, and the logits (B, classes) of the exit there, or None where there is none.

        Raises:
            EngineError: the engine cannot build or run this part.
        """
