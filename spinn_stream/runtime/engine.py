"""The small interface that every engine fills, and the choice of one by name."""

from __future__ import annotations

from typing import Protocol

import numpy as np
import numpy.typing as npt

from ..errors import ConfigError
from ..model.bundle import Bundle

Activation = npt.NDArray[np.float32]
"""A batch of activations at a cut point: (B, *cut_point.shape), float32, C order."""


class Engine(Protocol):
    """Runs a bundle from one cut point to another. Called from one thread at a time."""

    name: str

    def prepare(self, start: int, stop: int) -> None:
        """Build what `run(start, stop, ...)` needs, so that its first call is as fast as the next."""

    def run(self, start: int, stop: int, x: Activation) -> tuple[Activation, npt.NDArray[np.float32] | None]:
        """From cut point `start` to `stop`; exits strictly between them are not computed.

        Args:
            x: activations at `start`, (B, *shape).

        Returns:
            Activations at `stop`, and the logits (B, classes) of the exit there, or None where there is none.

        Raises:
            EngineError: the engine cannot build or run this part.
        """


RUNTIMES = ("auto", "onnxruntime")


def open_engine(bundle: Bundle, runtime: str = "auto", *, threads: int = 1) -> Engine:
    """The engine of that name, with so many threads for one run.

    Raises:
        ConfigError: no such runtime. EngineError: it cannot load the bundle.
    """
    if runtime not in RUNTIMES:
        raise ConfigError(f"runtime {runtime!r} is not known; expected one of {', '.join(RUNTIMES)}")
    from .onnx_engine import OnnxEngine

    return OnnxEngine(bundle, threads=threads)
