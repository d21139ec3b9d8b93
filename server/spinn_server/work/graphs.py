"""Which graphs a tail is run in: fused ones where they are built, the basic ones until then."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Collection

from spinn_stream.bundle import Bundle
from spinn_stream.errors import EngineError
from spinn_stream.runtime import Engine

Piece = tuple[int, int]
"""(first cut point, last cut point) of one graph; it computes the exit at its end."""

USES_BEFORE_BUILDING = 8
"""Batches that want the same fused graphs before they are built: whoever tries every threshold builds nothing."""

MAX_FUSED = 24
"""Fused graphs kept, those used last; each holds its own copy of the weights on its way."""


class TailPaths:
    """Breaks tails into graphs after the exits that may answer.

    The basic graphs, which lead from every cut point to the next exit, are built before the server accepts; any
    tail can be run in them. A tail whose requests leave exits out is run in fewer, fused graphs, which are built
    on another thread once they are wanted often enough, so that no request waits for one.

    `pieces` belongs to the event loop, `build` to the building thread.
    """

    def __init__(self, bundle: Bundle, engine: Engine, *, batches: bool) -> None:
        """batches: whether more than one request is ever run together."""
        self._bundle = bundle
        self._engine = engine
        self._batches = batches
        self._basic: set[Piece] = set()
        self._fused: OrderedDict[Piece, None] = OrderedDict()  # built, least recently used first
        self._wanted: dict[Piece, int] = {}  # not built: how often it was wanted
        self._refused: set[Piece] = set()

    def prepare(self, progress: Callable[[int, int], None]) -> list[Piece]:
        """Build the basic graphs; gives them. Blocks."""
        last = self._bundle.last
        pieces = [self._bundle.pieces(split, last)[0] for split in range(last)]
        for done, piece in enumerate(pieces, 1):
            self._engine.prepare(*piece, batches=self._batches)
            self._basic.add(piece)
            progress(done, last)
        return pieces

    def pieces(self, split: int, exits: Collection[int]) -> list[Piece]:
        """The way from a split to the end, broken after these exits where the graphs for that are there."""
        best = self._bundle.pieces(split, self._bundle.last, exits)
        missing = [p for p in best if p not in self._basic and p not in self._fused]
        if not missing:
            for piece in best:
                if piece in self._fused:
                    self._fused.move_to_end(piece)
            return best
        for piece in missing:
            if piece not in self._refused:
                self._wanted[piece] = self._wanted.get(piece, 0) + 1
        return self._bundle.pieces(split, self._bundle.last)

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
        """Use a graph from now on, and free the least recently used one where there are too many; gives how many."""
        self._wanted.pop(piece, None)
        self._fused[piece] = None
        if len(self._fused) > MAX_FUSED:
            oldest, _ = self._fused.popitem(last=False)
            self._engine.drop(*oldest)
        return len(self._fused)

    def refused(self, piece: Piece) -> None:
        """Never try this graph again."""
        self._wanted.pop(piece, None)
        self._refused.add(piece)
