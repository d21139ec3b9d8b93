"""Which pieces of the network can be run: the basic ones, and others once they were wanted often enough."""

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

MAX_FUSED = 24
"""Further pieces kept, those used last; each holds its own copy of the weights on its way."""


class Pieces:
    """Knows which graphs are built, and which ones should be.

    The basic pieces, which lead from every cut point to the next exit, are built before the server accepts; any
    request can be taken to the end in them. A piece that leaves an exit out, or ends before it where others join, is
    built on another thread once it is wanted often enough, so that no request waits for one.

    `end` belongs to the event loop, `build` to the building thread.
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

    def end(self, start: int, wanted: int) -> int:
        """Where the piece from a cut point ends that is there to be run: where it is wanted, or at the next exit.

        What is wanted and is not there is counted.
        """
        piece = start, wanted
        if piece in self._fused:
            self._fused.move_to_end(piece)
            return wanted
        if piece not in self._basic and piece not in self._refused:
            self._wanted[piece] = self._wanted.get(piece, 0) + 1
        return wanted if piece in self._basic else self._bundle.pieces(start, self._bundle.last)[0][1]

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
