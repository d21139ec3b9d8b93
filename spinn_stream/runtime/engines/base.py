"""The small interface that every engine fills."""

from __future__ import annotations

from typing import NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

Activation = npt.NDArray[np.float32]
"""A batch of activations at a cut point: (B, *cut_point.shape), float32; in whatever order in memory."""


class ExitOutput(NamedTuple):
    """What an exit's head gives for a batch.

    logits: (B, classes) float32. confidence: the largest calibrated probability of each row, (B, 1) float32; None: the
    engine did not compute it, `answers` does.
    """

    logits: npt.NDArray[np.float32]
    confidence: npt.NDArray[np.float32] | None = None


class Engine(Protocol):
    """Runs pieces of a bundle, each one fused graph from a cut point to a later one.

    `run` is called from one thread at a time; `prepare`, `ready` and `drop` may be called from another one
    meanwhile, so that graphs are built where nobody waits for them.
    """

    name: str

    def prepare(self, start: int, stop: int, *, exit: bool = True, batches: bool = False) -> None:
        """Build what `run(start, stop, ..., exit=exit)` needs for a batch of 1, and keep it until `drop`.

        Args:
            batches: and for larger ones.

        Raises:
            EngineError: the engine cannot build this piece.
        """

    def ready(self, start: int, stop: int, *, exit: bool = True) -> bool:
        """Whether `run(start, stop, ..., exit=exit)` would build nothing."""

    def drop(self, start: int, stop: int, *, exit: bool = True) -> None:
        """Free what `prepare` built, if anything."""

    def run(self, start: int, stop: int, x: Activation, *, exit: bool = True) -> tuple[Activation, ExitOutput | None]:
        """From cut point `start` to `stop`; exits strictly between them are not computed.

        Builds the piece first where that was not done.

        Args:
            x: activations at `start`, (B, *shape).
            exit: evaluate the exit at `stop`, if there is one; False: None is returned instead.
                At the last cut point it changes nothing: the activation there is the final exit's logits.

        Returns:
            Activations at `stop`, and what the exit there gives, or None where there is none.
            They may be the engine's own memory: handed on to the next piece as they are, nothing is copied;
            the next run of the same piece overwrites them. Copy what is to be kept.

        Raises:
            EngineError: the engine cannot build or run this piece.
        """
