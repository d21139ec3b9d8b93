"""The experiment's figures, by arithmetic, and that it goes on where it was."""

from __future__ import annotations

from pathlib import Path

import pytest

from spinn_drone.experiment.cells import CELLS, NETWORKS, Cell, Setting, todo
from spinn_drone.experiment.statistics import falanga_speed, mcnemar, wilson
from spinn_drone.experiment.store import Row, Store
from spinn_drone.experiment.table import beyond_oracle, cell_rows, comparisons
from spinn_drone.flight.referee import Flight

OURS, ALONE, ORACLE = Cell("spinn", "wifi"), Cell("device-only", "none"), Cell("oracle", "none")


def row(cell: Cell, seed: int, ending: str = "arrived") -> Row:
    return Row(cell.policy, cell.network, seed, ending, 10.0, 50.0, 0.5, 60.0, 90.0)


def test_wilson_s_interval_is_that_of_the_formula() -> None:
    """Of 5 in 100: (0.05 + z^2/200 -+ z sqrt(0.05 * 0.95 / 100 + z^2 / 40000)) / (1 + z^2 / 100) with z = 1.96."""
    assert wilson(5, 100) == pytest.approx((0.0215, 0.1118), abs=1e-4)
    assert wilson(0, 0) == (0.0, 1.0) and wilson(0, 300)[0] == pytest.approx(0, abs=1e-12)


def test_mcnemar_counts_pairs_that_differ() -> None:
    """Five to none: 2 / 2^5."""
    assert mcnemar([True] * 5 + [False] * 3, [False] * 8) == (5, 0, 0.0625)
    assert mcnemar([True, False], [True, False]) == (0, 0, 1.0)


def test_a_robot_that_dodges_in_a_second_flies_at_its_sight_per_second() -> None:
    """0.5 m aside at 1 m/s^2 takes 1 s; with a latency of 0.5 s, 9 m of sight last 1.5 s."""
    assert falanga_speed(0.5, 9.0, 0.5, 1.0) == pytest.approx(6.0)


def test_every_cell_of_a_seed_comes_before_the_next_seed() -> None:
    every = list(todo(2))
    assert [seed for seed, _ in every] == [0] * len(CELLS) + [1] * len(CELLS)
    assert len(set(every)) == 2 * len(CELLS)


def test_rows_have_rates_and_speeds() -> None:
    rows = {(OURS, seed): row(OURS, seed, "crashed" if seed < 2 else "arrived") for seed in range(10)}
    (found,) = cell_rows(rows)
    assert (found["episodes"], found["crashes"], found["crash_rate"]) == (10, 2, 0.2)
    assert found["crashes_per_100m"] == pytest.approx(100 * 2 / 500) and found["mean_speed"] == 5.0


def test_policies_are_compared_over_the_forests_that_both_flew() -> None:
    rows = {(OURS, seed): row(OURS, seed) for seed in range(8)}
    rows |= {(ALONE, seed): row(ALONE, seed, "crashed" if seed < 6 else "arrived") for seed in range(7)}
    rows |= {(ORACLE, seed): row(ORACLE, seed, "crashed" if seed == 0 else "arrived") for seed in range(4)}
    (found,) = comparisons(rows)
    assert (found["pairs"], found["other_alone"], found["ours_alone"]) == (7, 6, 0)
    assert found["p"] == pytest.approx(2 / 2**6)
    assert beyond_oracle(rows) == {"wifi": -25.0}


def test_the_device_alone_flies_once_and_is_compared_on_every_network() -> None:
    assert [cell for cell in CELLS if cell.policy == "device-only"] == [ALONE]
    rows = {(Cell("spinn", network), 0): row(Cell("spinn", network), 0) for network in NETWORKS}
    rows |= {(ALONE, 0): row(ALONE, 0, "crashed")}
    (found,) = comparisons(rows)
    assert (found["pairs"], found["crashes"]) == (len(NETWORKS), len(NETWORKS))


def test_flights_are_kept_and_what_is_damaged_is_flown_again(tmp_path: Path) -> None:
    path, said = tmp_path / "state.jsonl", []
    key = Setting().key
    store = Store(path, key, said.append)
    store.add(row(OURS, 1))
    with path.open("a") as file:
        file.write('{"setting": "' + key)
    again = Store(path, key, said.append)
    assert again.rows == {(OURS, 1): row(OURS, 1)} and len(said) == 1 and "line 2" in said[0]
    assert Store(path, Setting(slowdown=3.0).key, said.append).rows == {}, "flights of another setting do not count"


def test_a_row_says_how_old_the_answers_were() -> None:
    flight = Flight(1, "arrived", 1.0, 5.0, 0.3, tuple(k / 1000 for k in range(101)))
    assert (Row.of(OURS, flight).age_p50_ms, Row.of(OURS, flight).age_p95_ms) == pytest.approx((50, 95))
