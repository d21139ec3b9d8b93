"""Flights in virtual time."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from spinn_drone.experiment.cells import Cell, Setting
from spinn_drone.experiment.episode import fly
from spinn_drone.flight.lockstep import LockStep, fly_by
from spinn_drone.flight.realtime import BUNDLE
from spinn_drone.flight.recording import load, save
from spinn_drone.flight.referee import Flight, Referee
from spinn_drone.flight.top_view import top_view
from spinn_drone.pilot.pilot import Answer, Pilot, PilotConfig
from spinn_drone.world.scene import Scene
from spinn_drone.world.world import CONTROL_HZ
from spinn_stream.bundle import load_bundle
from spinn_stream.errors import ConfigError
from spinn_stream.profile import BatchProfile, Profile, Timing
from spinn_stream.runtime import open_engine
from spinn_traces.simulator import Costs
from spinn_traces.simulator.measured import Machine

TRACES = Path(__file__).parent.parent.parent / "traces" / "data"
SEGMENT_MS, EXIT_MS, CALL_MS = 0.1, 0.05, 0.02


@pytest.fixture(scope="module")
def here() -> Machine:
    """A machine whose every segment takes the same."""
    bundle = load_bundle(BUNDLE)
    cuts = tuple(e.cut for e in bundle.exits[:-1])
    segments, exits = (Timing(SEGMENT_MS, SEGMENT_MS),) * bundle.last, (Timing(EXIT_MS, EXIT_MS),) * len(cuts)
    profile = Profile("numbers", cuts, tuple(BatchProfile(n, segments, exits, CALL_MS) for n in (1, 16)), Timing(0, 0))
    return Machine(bundle, open_engine(bundle, "onnxruntime", threads=1), profile, Costs(preprocess_ms=0.05), "numbers")


@pytest.mark.parametrize("policy", ["spinn", "server-only"])
def test_the_same_seed_gives_the_same_flight_to_the_last_digit(here: Machine, policy: str) -> None:
    cell = Cell(policy, "lte-driving")
    one, same = (fly(Setting(), cell, 5, here, TRACES) for _ in range(2))
    assert one == same and len(one.track) > 20 and one.ages_s
    assert fly(Setting(), cell, 6, here, TRACES) != one


def test_answers_of_a_device_alone_are_as_old_as_its_work_takes(here: Machine) -> None:
    """Slowed down 200 times, the network takes longer than a frame lasts, and the newest picture wins."""
    flight = fly(Setting(slowdown=200.0, deadline_ms=1000.0), Cell("device-only", "wifi"), 5, here, TRACES)
    work_s = 0.2 * (0.05 + CALL_MS + here.bundle.last * SEGMENT_MS)
    flying = flight.ages_s[len(flight.ages_s) // 2 :]
    assert work_s < min(flying) and max(flying) < 3 * work_s + 0.1


def test_who_knows_the_forest_flies_better_without_delay(here: Machine) -> None:
    """Forty forests: a delay of a second makes more crashes or slower flights; never neither."""

    def flown(delay: float) -> list[Flight]:
        setting = Setting(pilot=PilotConfig(stop_after=2.0))
        cell = Cell("rays", "none")
        if delay:
            cell = _Late("rays", "none")
        return [fly(setting, cell, seed, here, TRACES) for seed in range(15)]

    prompt, late = flown(0.0), flown(1.0)
    assert sum(f.ending == "crashed" for f in late) > sum(f.ending == "crashed" for f in prompt)


class _Late(Cell):
    @property
    def delay(self) -> float:
        return 1.0


def test_a_blind_drone_stays_where_it_is() -> None:
    with Scene(1).open() as world:
        flying = LockStep(world, Pilot(PilotConfig()), Referee(world, seed=1, length=50, time_limit=2.0))
        flight = fly_by(lambda now: Answer(-math.inf, 0.0, ()), flying)
    assert (flight.ending, flight.metres, len(flight.ages_s)) == ("out of time", 0.0, 2 * CONTROL_HZ)


def test_a_drone_that_is_told_the_way_is_free_flies_into_a_tree() -> None:
    """Until it touches one: what it has left is nothing, and it ends there."""
    with Scene(3).open() as world:
        flying = LockStep(world, Pilot(PilotConfig()), Referee(world, seed=3, length=500.0))
        flight = fly_by(lambda now: Answer(now, 0.0, ((0.0, 1.0),)), flying)
        assert flight.ending == "crashed" and -0.05 < flight.clearance_m <= 0
        assert world.forest.clearance(world.drone.x, world.drone.y) == pytest.approx(0.25, abs=0.05)


def test_a_recorded_flight_is_the_same_when_it_is_read(tmp_path: Path) -> None:
    flight = Flight(7, "arrived", 9.5, 51.0, 0.4, (0.02, 0.04), ((0.0, 0.0, 0.0), (0.1, 0.0, 2.0)))
    save(flight, tmp_path / "flight.json")
    assert load(tmp_path / "flight.json") == flight
    assert ">" in top_view(flight) and "o" in top_view(flight)


@pytest.mark.parametrize(
    ("text", "expected"),
    [("{", "no JSON"), ("[]", "no recorded flight"), ('{"format": "other"}', "format is not spinn-flight")],
)
def test_what_is_no_flight_is_one_line(tmp_path: Path, text: str, expected: str) -> None:
    path = tmp_path / "flight.json"
    path.write_text(text)
    with pytest.raises(ConfigError, match=expected):
        load(path)
    with pytest.raises(ConfigError, match="cannot read"):
        load(tmp_path / "none.json")
