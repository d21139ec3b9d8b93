"""The whole network, without delay: what the drone would know if answers took no time."""

from __future__ import annotations

from spinn_stream.bundle import Bundle
from spinn_stream.frame import Pixels, crop, normalise
from spinn_stream.runtime import Engine, answers

Likely = dict[str, float]
"""Label -> probability, of the likeliest classes."""


class WholeNetwork:
    """Runs a bundle to its final exit."""

    def __init__(self, bundle: Bundle, engine: Engine) -> None:
        self._bundle, self._engine = bundle, engine
        engine.prepare(0, bundle.last)

    def likely(self, pixels: Pixels) -> Likely:
        """The classes of a picture, (H, W, 3) uint8 BGR, as in the `top` of a stream's result."""
        x = normalise(crop(pixels, self._bundle.input.size), self._bundle.input)
        _, output = self._engine.run(0, self._bundle.last, x)
        assert output is not None
        final = self._bundle.exits[-1]
        top = answers(final.name, output, final.temperature)[0].top
        return {self._bundle.labels[k]: p for k, p in top}
