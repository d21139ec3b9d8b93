"""Conditions, rates and settings of the scheduler: which numbers make sense, and what is said of those that do not."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from spinn_stream.plan import Conditions, EnergyRates, LinkState

INF, NAN = float("inf"), float("nan")
MOST, TOO_MUCH = 1e6, 1.1e6


def link(**values: float) -> LinkState:
    return LinkState(**({"up_mbps": 5.0, "rtt_ms": 20.0} | values))


def conditions(**values: Any) -> Conditions:
    return Conditions(None, **values)


@pytest.mark.parametrize("value", [0.0, -1.0, TOO_MUCH, INF, NAN])
def test_a_capacity_is_more_than_nothing_and_finite(value: float) -> None:
    link(up_mbps=MOST)
    with pytest.raises(ValueError, match="expected more than 0 Mb/s"):
        link(up_mbps=value)


@pytest.mark.parametrize("name", ["rtt_ms", "jitter_ms"])
@pytest.mark.parametrize("value", [-0.1, TOO_MUCH, INF, NAN])
def test_a_round_trip_may_take_no_time_and_not_for_ever(name: str, value: float) -> None:
    link(**{name: 0.0})
    link(**{name: MOST})
    with pytest.raises(ValueError, match="from 0 ms, and each up to 1e6"):
        link(**{name: value})


@pytest.mark.parametrize("value", [0.0, -1.0, TOO_MUCH, INF, NAN])
@pytest.mark.parametrize(
    "made",
    [
        lambda value: conditions(device_load=value),
        lambda value: conditions(server_load=value),
        lambda value: conditions(fps=value),
        lambda value: conditions(payload_factors={"jpeg": 1.0, "transform": value}),
    ],
    ids=["device_load", "server_load", "fps", "payload_factors"],
)
def test_factors_and_rates_are_more_than_nothing_and_finite(made: Callable[[float], Conditions], value: float) -> None:
    made(MOST)
    with pytest.raises(ValueError, match="expected more than 0, up to 1e6"):
        made(value)


@pytest.mark.parametrize("name", ["server_queue_ms", "device_overhead_ms"])
@pytest.mark.parametrize("value", [-0.1, 1.1e7, INF, NAN])
def test_a_wait_may_be_none_and_not_endless(name: str, value: float) -> None:
    conditions(**{name: 0.0})
    conditions(**{name: 1e7})
    with pytest.raises(ValueError, match="expected 0 to 1e7"):
        conditions(**{name: value})


@pytest.mark.parametrize("value", [0.0, -1.0, INF, NAN])
def test_a_deadline_is_a_time_or_none(value: float) -> None:
    conditions(deadline_ms=None)
    conditions(deadline_ms=1e-3)
    with pytest.raises(ValueError, match=r"deadline_ms is .*, expected more than 0"):
        conditions(deadline_ms=value)


def test_four_cores_take_four_times_as_much_and_the_radio_the_same() -> None:
    one, four = EnergyRates(), EnergyRates.of_cores(4)
    assert four.compute_mw == 4 * one.compute_mw
    assert (four.up_mj_per_mbit, four.radio_mw) == (one.up_mj_per_mbit, one.radio_mw)
