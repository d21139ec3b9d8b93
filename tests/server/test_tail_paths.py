"""Which graphs a tail runs in: the basic ones at once, fused ones when they are worth building."""

from __future__ import annotations

import pytest

from spinn_server.work.graphs import MAX_FUSED, USES_BEFORE_BUILDING, TailPaths
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
def paths(bundle: Bundle, counting: Counting) -> TailPaths:
    engine: Engine = counting  # type: ignore[assignment]
    made = TailPaths(bundle, engine, batches=True)
    made.prepare(lambda done, total: None)
    return made


def build_what_is_wanted(paths: TailPaths) -> list[tuple[int, int]]:
    done = []
    while (piece := paths.to_build()) is not None:
        paths.build(piece)
        paths.built(piece)
        done.append(piece)
    return done


def test_every_tail_can_be_run_at_once(paths: TailPaths, bundle: Bundle, counting: Counting) -> None:
    for split in range(bundle.last):
        way = paths.pieces(split, set())
        assert way == bundle.pieces(split, bundle.last) and set(way) <= counting.held


def test_a_tail_that_is_wanted_often_gets_fused_graphs(paths: TailPaths, bundle: Bundle) -> None:
    exits = {bundle.exits[1].cut}
    for _ in range(USES_BEFORE_BUILDING - 1):
        paths.pieces(3, exits)
    assert paths.to_build() is None
    paths.pieces(3, exits)
    built = build_what_is_wanted(paths)
    assert built and set(built) <= set(bundle.pieces(3, bundle.last, exits))
    assert paths.pieces(3, exits) == bundle.pieces(3, bundle.last, exits)
    assert len(paths.pieces(3, exits)) == 2


def test_where_every_exit_may_answer_the_basic_graphs_are_the_best(paths: TailPaths, bundle: Bundle) -> None:
    for _ in range(2 * USES_BEFORE_BUILDING):
        paths.pieces(0, {e.cut for e in bundle.exits})
    assert paths.to_build() is None


def test_fused_graphs_are_bounded_and_the_least_used_goes(paths: TailPaths, bundle: Bundle, counting: Counting) -> None:
    basic = set(counting.held)
    wanted = [(split, exits) for split in range(bundle.last) for exits in (set[int](), {bundle.exits[-2].cut})]
    for split, exits in wanted:
        for _ in range(USES_BEFORE_BUILDING):
            paths.pieces(split, exits)
        build_what_is_wanted(paths)
        assert len(counting.held - basic) <= MAX_FUSED
    assert basic <= counting.held
    first = paths.pieces(0, set())
    assert first == bundle.pieces(0, bundle.last), "the first one fused was dropped long ago: basic graphs again"


def test_a_graph_that_cannot_be_built_is_not_tried_again(paths: TailPaths, bundle: Bundle) -> None:
    for _ in range(3 * USES_BEFORE_BUILDING):
        paths.pieces(0, set())
        if (piece := paths.to_build()) is not None:
            paths.refused(piece)
    assert paths.to_build() is None
    assert paths.pieces(0, set()) == bundle.pieces(0, bundle.last)


def test_an_engine_that_says_built_and_has_nothing_is_found_out(bundle: Bundle, counting: Counting) -> None:
    counting.ready = lambda start, stop, *, exit=True: False  # type: ignore[method-assign]
    engine: Engine = counting  # type: ignore[assignment]
    with pytest.raises(EngineError):
        TailPaths(bundle, engine, batches=False).build((0, bundle.last))
