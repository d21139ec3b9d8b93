"""When a live source is opened again, and when it is given up; with numbers for clocks."""

from __future__ import annotations

import random

import pytest

from spinn_client.sources.resilient import FIRST_PAUSE_S, LONGEST_PAUSE_S, Act, Resilience


def opened(give_up_after_s: float | None = None, *, reopens: bool = True) -> Resilience:
    """A source that was opened at 0, and gave its first picture at 1; it may be silent for 5 s, and open for 10."""
    source = Resilience(
        random.Random(0), timeout_s=5, open_s=10, give_up_after_s=give_up_after_s, reopens=reopens
    )  # fmt: skip
    if reopens:
        source.opening(0.0)
    assert source.delivered(1.0) == (True, None)
    return source


def test_opening_may_take_its_limit_and_no_longer() -> None:
    source = Resilience(random.Random(0), timeout_s=5, open_s=10)
    assert source.timer() is None
    source.opening(100.0)
    assert source.timer() == 110 and source.due(109.9) is None and source.due(110.0) is Act.LEAVE
    assert not source.failed(110.0) and not source.worked


def test_each_picture_puts_off_the_limit_of_silence() -> None:
    source = opened()
    assert source.timer() == 6
    assert source.delivered(4.0) == (False, None)
    assert source.due(8.9) is None and source.due(9.0) is Act.LEAVE


def test_a_loss_is_told_once_and_how_long_it_was_away_once_it_is_back() -> None:
    source = opened()
    assert source.failed(3.0)
    source.opening(3.1)
    assert not source.failed(3.2)
    source.opening(4.0)
    assert source.delivered(4.5) == (True, 3.5)  # the last picture was at 1
    assert source.failed(5.0)


def test_pauses_grow_up_to_the_longest() -> None:
    source, now, before = opened(), 10.0, FIRST_PAUSE_S / 3
    pauses = []
    for _ in range(40):
        source.failed(now)
        when = source.timer()
        assert when is not None
        pauses.append(when - now)
        assert FIRST_PAUSE_S - 1e-6 <= pauses[-1] <= min(LONGEST_PAUSE_S, 3 * before) + 1e-6
        assert source.due(when - 1e-6) is None and source.due(when) is Act.OPEN
        source.opening(when)
        now, before = when + 1, pauses[-1]
    assert max(pauses) > LONGEST_PAUSE_S / 2


def test_pauses_begin_anew_only_once_a_source_has_played_for_a_while() -> None:
    source = opened()
    for _ in range(20):
        source.failed(20.0)
    source.delivered(30.0)
    pauses = []
    for k in range(20):  # lost again at once, each time
        source.failed(31.0 + k)
        pauses.append((source.timer() or 0) - 31.0 - k)
        source.delivered(31.5 + k)
    assert sum(pauses) / len(pauses) > 3 * FIRST_PAUSE_S
    source.delivered(60.0)
    source.delivered(60.0 + LONGEST_PAUSE_S)
    source.failed(80.0)
    assert (source.timer() or 0) - 80 == pytest.approx(FIRST_PAUSE_S)


@pytest.mark.parametrize("reopens", [True, False])
def test_it_is_given_up_once_it_was_away_for_longer_than_asked(reopens: bool) -> None:
    source = opened(7.0, reopens=reopens)
    source.delivered(3.0)
    assert source.due(9.9) is Act.LEAVE  # playing still: silent for more than 5 s
    source.failed(9.0)
    if reopens:
        source.opening(9.9)
    assert source.timer() == 10 == 3 + 7 and source.due(10.0) is Act.GIVE_UP


def test_what_comes_back_by_itself_is_only_waited_for() -> None:
    source = opened(reopens=False)
    assert source.due(6.0) is Act.LEAVE and source.failed(6.0)
    assert source.timer() is None and source.due(1e9) is None
    assert source.delivered(50.0) == (True, 49.0)
