"""Which pieces of the network can be run: its segments, and longer ones once they were wanted often enough."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable

from spinn_stream.bundle import Bundle
from spinn_stream.errors import EngineError
from spinn_stream.runtime import Engine

Piece = tuple[int, int]
"""(first cut point, last cut point) of one graph; it computes the exit at its end, if there is one."""

USES_BEFORE_BUILDING = 8
"""Steps that want the same piece before it is built: whoever tries every threshold builds nothing."""

MAX_FUSED = 48
"""Pieces longer than a segment that are kept, those used last; each holds its own copy of the weights on its way. A
network of two dozen cut points has one from each to the next exit, and some that leave an exit out."""


class Pieces:
    """Knows which graphs are built, and which ones should be.

    The segments lead from each cut point to the next one. They are built before the server accepts, for one request at
    a time, because they are built fastest: any request can be taken to the end in them. Whatever else is wanted often
    enough is built on another thread, so that no request waits for it: longer pieces, and segments for batches.

    `build` belongs to the building thread, all else to the event loop. docs/decisions/0031-start-of-the-server.md
    """

    def __init__(self, bundle: Bundle, engine: Engine, *, batches: bool) -> None:
        """batches: whether more than one request is ever run together."""
        self._engine = engine
        self._batches = batches
        self._segments = [(cut, cut + 1) for cut in range(bundle.last)]
        self._built: OrderedDict[Piece, None] = OrderedDict()  # for all batches, least recently used first
        self._wanted: dict[Piece, int] = {}  # not built: how often it was wanted since the last one was
        self._refused: set[Piece] = set()

    def prepare(self, progress: Callable[[int, int], None]) -> list[Piece]:
        """Build the segments; gives them. Blocks."""
        for done, segment in enumerate(self._segments, 1):
            self._engine.prepare(*segment)
            progress(done, len(self._segments))
        return self._segments

    def end(self, start: int, wanted: int) -> int:
        """Where the piece from a cut point ends that is to be run: where it is wanted, or as close as there is one.

        What is wanted and is not there is counted.
        """
        piece = start, wanted
        if piece in self._built:
            self._built.move_to_end(piece)
            return wanted
        if piece not in self._refused:
            self._wanted[piece] = self._wanted.get(piece, 0) + 1
        return max((stop for first, stop in self._built if first == start and stop < wanted), default=start + 1)

    def takes_batches(self, piece: Piece) -> bool:
        """False: the engine would have to build a graph for more than one request."""
        return piece in self._built

    def to_build(self) -> Piece | None:
        """The graph that is wanted most, if any is wanted often enough."""
        piece = max(self._wanted, key=lambda p: self._wanted[p], default=None)
        return piece if piece is not None and self._wanted[piece] >= USES_BEFORE_BUILDING else None

    def build(self, piece: Piece) -> None:
        """Build a graph. Blocks; call `built` on the event loop afterwards.

        Raises:
            EngineError: no engine can; call `refused` then.
        """
        self._engine.prepare(*piece, batches=self._batches)
        if not self._engine.ready(*piece):
            raise EngineError(f"cut points {piece[0]} to {piece[1]} were built, and are not there")

    def built(self, piece: Piece) -> int:
        """Use a graph from now on, and free the least recently used one if there are too many.

        Returns:
            How many pieces longer than a segment there are.
        """
        self._wanted.clear()  # what was wanted in its place is not any more
        self._built[piece] = None
        fused = [built for built in self._built if built not in self._segments]
        if len(fused) > MAX_FUSED:
            oldest = fused.pop(0)
            del self._built[oldest]
            self._engine.drop(*oldest)
        return len(fused)

    def refused(self, piece: Piece) -> None:
        """Never try this graph again."""
        self._wanted.pop(piece, None)
        self._refused.add(piece)
