"""Which pieces can be run: the basic ones at once, others when they are worth building."""

from __future__ import annotations

import pytest

from spinn_server.work.graphs import MAX_FUSED, USES_BEFORE_BUILDING, Pieces
from spinn_stream.bundle import Bundle
from spinn_stream.errors import EngineError
from spinn_stream.runtime import Engine


class Counting:
    """An engine that only remembers what is built."""

    name = "counting"

    def __init__(self) -> None:
        self.held: set[tuple[int, int]] = set()

    def prepare(self, start: int, stop: int, *, exit: bool = True, batches: bool = False) -> None:
        self.held.add((start, stop))

    def ready(self, start: int, stop: int, *, exit: bool = True) -> bool:
        return (start, stop) in self.held

    def drop(self, start: int, stop: int, *, exit: bool = True) -> None:
        self.held.discard((start, stop))

    def run(self, *args: object, **kwargs: object) -> None:
        raise AssertionError("nothing is run here")


@pytest.fixture
def counting() -> Counting:
    return Counting()


@pytest.fixture
def pieces(bundle: Bundle, counting: Counting) -> Pieces:
    engine: Engine = counting  # type: ignore[assignment]
    made = Pieces(bundle, engine, batches=True)
    made.prepare(lambda done, total: None)
    return made


def build_what_is_wanted(pieces: Pieces) -> list[tuple[int, int]]:
    done = []
    while (piece := pieces.to_build()) is not None:
        pieces.build(piece)
        pieces.built(piece)
        done.append(piece)
    return done


def test_from_every_cut_point_a_piece_to_the_next_exit_is_there_at_once(
    pieces: Pieces, bundle: Bundle, counting: Counting
) -> None:
    for start in range(bundle.last):
        next_exit = bundle.pieces(start, bundle.last)[0][1]
        assert pieces.end(start, bundle.last) == next_exit and (start, next_exit) in counting.held


def test_a_piece_that_is_wanted_often_is_built(pieces: Pieces, bundle: Bundle) -> None:
    for _ in range(USES_BEFORE_BUILDING - 1):
        pieces.end(3, bundle.last)
    assert pieces.to_build() is None
    pieces.end(3, bundle.last)
    assert build_what_is_wanted(pieces) == [(3, bundle.last)]
    assert pieces.end(3, bundle.last) == bundle.last


def test_a_piece_that_ends_where_there_is_no_exit_is_built_likewise(pieces: Pieces, bundle: Bundle) -> None:
    assert 4 not in bundle.exit_at
    for _ in range(USES_BEFORE_BUILDING):
        assert pieces.end(3, 4) > 4
    assert build_what_is_wanted(pieces) == [(3, 4)] and pieces.end(3, 4) == 4


def test_what_is_there_is_never_built_again(pieces: Pieces, bundle: Bundle) -> None:
    for _ in range(2 * USES_BEFORE_BUILDING):
        pieces.end(0, bundle.exits[0].cut)
    assert pieces.to_build() is None


def test_fused_graphs_are_bounded_and_the_least_used_goes(pieces: Pieces, bundle: Bundle, counting: Counting) -> None:
    basic = set(counting.held)
    wanted = [(start, stop) for start in range(bundle.last) for stop in (start + 1, bundle.last)]
    wanted = [piece for piece in wanted if piece not in basic]
    assert len(wanted) > MAX_FUSED
    for piece in wanted:
        for _ in range(USES_BEFORE_BUILDING):
            pieces.end(*piece)
        build_what_is_wanted(pieces)
        assert len(counting.held - basic) <= MAX_FUSED
    assert basic <= counting.held
    assert wanted[0] not in counting.held and wanted[-1] in counting.held


def test_a_graph_that_cannot_be_built_is_not_tried_again(pieces: Pieces, bundle: Bundle) -> None:
    for _ in range(3 * USES_BEFORE_BUILDING):
        pieces.end(0, bundle.last)
        if (piece := pieces.to_build()) is not None:
            pieces.refused(piece)
    assert pieces.to_build() is None
    assert pieces.end(0, bundle.last) == bundle.pieces(0, bundle.last)[0][1]


def test_an_engine_that_says_built_and_has_nothing_is_found_out(bundle: Bundle, counting: Counting) -> None:
    counting.ready = lambda start, stop, *, exit=True: False  # type: ignore[method-assign]
    engine: Engine = counting  # type: ignore[assignment]
    with pytest.raises(EngineError):
        Pieces(bundle, engine, batches=False).build((0, bundle.last))
