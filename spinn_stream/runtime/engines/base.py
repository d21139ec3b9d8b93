"""The small interface that every engine implements."""

from __future__ import annotations

from typing import NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

Activation = npt.NDArray[np.float32]
"""A batch of activations at a cut point: (B, *cut_point.shape), float32, in any memory order."""


class ExitOutput(NamedTuple):
    """An exit's output for a batch.

    logits: (B, classes) float32. confidence: the largest calibrated probability of each row, (B, 1) float32; None: the
    engine did not compute it, so `answers` does.
    """

    logits: npt.NDArray[np.float32]
    confidence: npt.NDArray[np.float32] | None = None


class Engine(Protocol):
    """Runs pieces of a bundle, each one fused graph from a cut point to a later one.

    `run` is called from one thread at a time. Another thread may call `prepare`, `ready` and `drop` meanwhile, so that
    graphs are built in the background.
    """

    name: str

    def prepare(self, start: int, stop: int, *, exit: bool = True, batches: bool = False) -> None:
        """Build what `run(start, stop, ..., exit=exit)` needs for a batch of 1, and keep it until `drop`.

        Args:
            batches: also for larger ones.

        Raises:
            EngineError: the engine cannot build this piece.
        """

    def ready(self, start: int, stop: int, *, exit: bool = True) -> bool:
        """Whether `run(start, stop, ..., exit=exit)` would build nothing."""

    def drop(self, start: int, stop: int, *, exit: bool = True) -> None:
        """Free what `prepare` built, if anything."""

    def run(self, start: int, stop: int, x: Activation, *, exit: bool = True) -> tuple[Activation, ExitOutput | None]:
        """Run from cut point `start` to `stop`; exits strictly between them are not computed.

        Builds the piece first if that was not done.

        Args:
            x: activations at `start`, (B, *shape).
            exit: evaluate the exit at `stop`, if there is one; False: None is returned instead.
                At the last cut point it changes nothing: the activation there is the final exit's logits.

        Returns:
            Activations at `stop`, and the output of the exit there; None: there is no exit. They may be the engine's
            own memory, so that the next piece reads them without a copy. The next run of the same piece overwrites
            them: copy them to keep them.

        Raises:
            EngineError: the engine cannot build or run this piece.
        """
