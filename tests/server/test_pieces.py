"""Which pieces can be run: segments at once, others when they are worth building."""

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
        self.batches: set[tuple[int, int]] = set()

    def prepare(self, start: int, stop: int, *, exit: bool = True, batches: bool = False) -> None:
        self.held.add((start, stop))
        if batches:
            self.batches.add((start, stop))

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


def want(pieces: Pieces, start: int, stop: int, times: int = USES_BEFORE_BUILDING) -> None:
    for _ in range(times):
        pieces.end(start, stop)


def test_any_request_can_be_taken_to_the_end_in_segments_at_once(
    pieces: Pieces, bundle: Bundle, counting: Counting
) -> None:
    assert counting.held == {(cut, cut + 1) for cut in range(bundle.last)}
    for start in range(bundle.last):
        assert pieces.end(start, bundle.last) == start + 1


def test_progress_is_told_of_each_segment(bundle: Bundle, counting: Counting) -> None:
    engine: Engine = counting  # type: ignore[assignment]
    told: list[tuple[int, int]] = []
    Pieces(bundle, engine, batches=True).prepare(lambda done, total: told.append((done, total)))
    assert told == [(done, bundle.last) for done in range(1, bundle.last + 1)]


def test_a_piece_that_is_wanted_often_is_built(pieces: Pieces, bundle: Bundle) -> None:
    want(pieces, 3, bundle.last, USES_BEFORE_BUILDING - 1)
    assert pieces.to_build() is None
    pieces.end(3, bundle.last)
    assert build_what_is_wanted(pieces) == [(3, bundle.last)]
    assert pieces.end(3, bundle.last) == bundle.last


def test_what_was_run_in_its_place_meanwhile_is_not_built_as_well(pieces: Pieces, bundle: Bundle) -> None:
    """A request goes from segment to segment, and at each it wants the rest of the way."""
    for _ in range(USES_BEFORE_BUILDING):
        cut = 3
        while cut < 9:
            cut = pieces.end(cut, 9)
    assert build_what_is_wanted(pieces) == [(3, 9)]


def test_the_longest_piece_is_run_that_goes_no_further_than_wanted(pieces: Pieces) -> None:
    for stop in (5, 7):
        want(pieces, 3, stop)
        build_what_is_wanted(pieces)
    assert [pieces.end(3, wanted) for wanted in (4, 5, 6, 7, 8)] == [4, 5, 5, 7, 7]


def test_a_segment_takes_batches_once_it_is_wanted_often(pieces: Pieces, counting: Counting) -> None:
    assert not pieces.takes_batches((3, 4)) and (3, 4) not in counting.batches
    want(pieces, 3, 4)
    assert build_what_is_wanted(pieces) == [(3, 4)]
    assert pieces.takes_batches((3, 4)) and (3, 4) in counting.batches


def test_what_is_there_is_never_built_again(pieces: Pieces) -> None:
    want(pieces, 3, 9)
    build_what_is_wanted(pieces)
    want(pieces, 3, 9, 2 * USES_BEFORE_BUILDING)
    assert pieces.to_build() is None


def test_longer_pieces_are_bounded_and_the_least_used_goes(pieces: Pieces, bundle: Bundle, counting: Counting) -> None:
    segments = set(counting.held)
    wanted = [(start, stop) for start in range(bundle.last) for stop in range(start + 1, bundle.last + 1)]
    wanted = wanted[: 2 * MAX_FUSED]
    longer = [piece for piece in wanted if piece not in segments]
    assert len(longer) > MAX_FUSED
    for piece in wanted:
        want(pieces, *piece)
        build_what_is_wanted(pieces)
        assert len(counting.held - segments) <= MAX_FUSED
    assert segments <= counting.held
    assert longer[0] not in counting.held and longer[-1] in counting.held
    assert pieces.end(*longer[0]) == longer[0][0] + 1


def test_a_piece_that_is_used_stays(pieces: Pieces, bundle: Bundle, counting: Counting) -> None:
    longer = [(start, stop) for start in range(5) for stop in range(start + 2, bundle.last + 1)]
    for piece in longer[: MAX_FUSED + 5]:
        want(pieces, *piece)
        build_what_is_wanted(pieces)
        pieces.end(*longer[0])
    assert longer[0] in counting.held and longer[1] not in counting.held


def test_a_graph_that_cannot_be_built_is_not_tried_again(pieces: Pieces, bundle: Bundle) -> None:
    for _ in range(3 * USES_BEFORE_BUILDING):
        pieces.end(0, bundle.last)
        if (piece := pieces.to_build()) is not None:
            pieces.refused(piece)
    assert pieces.to_build() is None
    assert pieces.end(0, bundle.last) == 1


def test_an_engine_that_says_built_and_has_nothing_is_found_out(bundle: Bundle, counting: Counting) -> None:
    counting.ready = lambda start, stop, *, exit=True: False  # type: ignore[method-assign]
    engine: Engine = counting  # type: ignore[assignment]
    with pytest.raises(EngineError):
        Pieces(bundle, engine, batches=False).build((0, bundle.last))
