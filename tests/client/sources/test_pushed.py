"""A program's own pictures."""

from __future__ import annotations

import math
import time
from typing import Any

import numpy as np
import pytest

from spinn_client.sources.pushed import Pushed, Taker
from spinn_stream.errors import SourceError
from spinn_stream.frame import Pixels

PICTURE = np.full((2, 3, 3), 7, np.uint8)


class Taken:
    """Writes down what it is given."""

    def __init__(self) -> None:
        self.numbers: list[int] = []
        self.captured: list[float] = []
        self.ended = 0
        self.taker = Taker(self._take, self._end)

    def _take(self, number: int, pixels: Pixels, captured: float) -> None:
        self.numbers.append(number)
        self.captured.append(captured)
        self.pixels = pixels

    def _end(self) -> None:
        self.ended += 1


def test_pictures_are_numbered_and_handed_on_with_their_times() -> None:
    source, taken = Pushed(), Taken()
    assert source.attach(taken.taker) == range(0)
    assert [source.push(PICTURE, captured=t) for t in (3.0, 1.0, 2.5)] == [0, 1, 2] == taken.numbers
    assert taken.captured == [3.0, 1.0, 2.5]


def test_the_newest_of_those_pushed_before_is_handed_over_and_the_others_are_named() -> None:
    source, taken = Pushed(), Taken()
    for _ in range(4):
        source.push(PICTURE)
    assert source.attach(taken.taker) == range(3) and taken.numbers == [3]


def test_numbers_go_on_from_one_stream_to_the_next() -> None:
    source, first, second = Pushed(), Taken(), Taken()
    source.attach(first.taker)
    source.push(PICTURE)
    source.detach()
    source.push(PICTURE)
    source.push(PICTURE)
    assert source.attach(second.taker) == range(1, 2)
    assert first.numbers == [0] and second.numbers == [2]


def test_two_streams_at_once_are_refused() -> None:
    source = Pushed()
    source.attach(Taken().taker)
    with pytest.raises(SourceError, match="played by another stream already"):
        source.attach(Taken().taker)


def test_nothing_can_be_pushed_behind_the_end_which_a_later_stream_is_told_too() -> None:
    source, taken = Pushed(), Taken()
    source.push(PICTURE)
    source.end()
    source.end()
    with pytest.raises(SourceError, match="were ended"):
        source.push(PICTURE)
    source.attach(taken.taker)
    assert taken.numbers == [0] and taken.ended == 1


@pytest.mark.parametrize("bad", [None, np.zeros((2, 3, 3)), np.zeros((2, 3, 3, 1), np.uint8)])
def test_what_is_no_picture_takes_no_number(bad: Any) -> None:
    source = Pushed()
    with pytest.raises(ValueError, match="expected"):
        source.push(bad)
    assert source.push(PICTURE) == 0


@pytest.mark.parametrize("captured", [math.nan, math.inf])
def test_a_time_that_is_none_is_refused(captured: float) -> None:
    with pytest.raises(ValueError, match=r"expected seconds of time.monotonic\(\)"):
        Pushed().push(PICTURE, captured=captured)


def test_a_time_of_another_clock_is_refused() -> None:
    with pytest.raises(ValueError, match="which is "):
        Pushed().push(PICTURE, captured=time.monotonic() + 1e9)


def test_a_picture_may_be_written_over_once_it_is_pushed() -> None:
    source, taken, mine = Pushed(), Taken(), PICTURE.copy()
    source.attach(taken.taker)
    source.push(mine)
    mine[:] = 0
    assert taken.pixels.min() == 7


def test_a_dark_picture_of_many_bits_stays_dark() -> None:
    source, taken = Pushed(), Taken()
    source.attach(taken.taker)
    source.push(np.full((2, 2), 4000, np.uint16))  # so these are 12 bits
    assert taken.pixels.max() == 4000 >> 4
    source.push(np.full((2, 2), 160, np.uint16))
    assert taken.pixels.max() == 160 >> 4


def test_a_rate_that_makes_no_sense_is_refused() -> None:
    with pytest.raises(ValueError, match=r"expected 0.01 to 1000"):
        Pushed(0)
