"""The forest, the drone's motion and its camera, by arithmetic."""

from __future__ import annotations

import math

import numpy as np
import pytest

from spinn_drone.perception.classes import BLOCKED, FREE_M, HALF_WIDTH_M, HEADINGS, LABELS, SIGHT_M, truth
from spinn_drone.perception.pictures import mirrored
from spinn_drone.world.body import Body, Limits
from spinn_drone.world.bullet import FIELD_OF_VIEW, PICTURE
from spinn_drone.world.forest import CLEARING_M, Forest, ForestConfig
from spinn_drone.world.forest_world import ForestWorld
from spinn_drone.world.looks import Looks
from spinn_drone.world.scene import COURSE, Scene
from spinn_drone.world.world import HOVER, PHYSICS_HZ, Command, DroneState

ONE_TREE = Forest(np.array([[5.0, 0.0, 0.3]]))


def test_a_seed_decides_the_forest() -> None:
    one, same, other = (Forest.grown(COURSE, seed).trees for seed in (7, 7, 8))
    assert np.array_equal(one, same) and not np.array_equal(one, other)


def test_trees_keep_their_distance_from_each_other_and_from_the_start() -> None:
    trees = Forest.grown(ForestConfig(density=0.1, gap=1.4), 3).trees
    apart = np.hypot(*(trees[:, None, :2] - trees[None, :, :2]).transpose(2, 0, 1)) - trees[:, 2] - trees[None, :, 2].T
    np.fill_diagonal(apart, np.inf)
    assert apart.min() >= 1.4 and trees[:, 0].min() >= CLEARING_M


def test_a_corridor_ends_where_its_disc_touches_a_tree() -> None:
    """Straight ahead: 5 m less both radii. To the side: 0.4 + 0.3 m is reached at sin(angle) = 0.7 / 5, no farther."""
    edge = math.asin(0.7 / 5)
    free = ONE_TREE.free_distances(
        0, 0, np.array([0.0, edge - 0.001, edge + 0.001, math.pi]), half_width=0.4, reach=9.0
    )
    assert free == pytest.approx([4.3, math.sqrt(25 - 0.49), 9.0, 9.0], abs=0.1)


def test_the_truth_of_a_place_is_straight_ahead_unless_that_is_not_free() -> None:
    assert truth(Forest(np.array([[5.0, 4.0, 0.3]])), 0, 0).label == "straight"
    beside = truth(Forest(np.array([[5.0, 0.2, 0.3]])), 0, 0)
    assert beside.label == "10 right", "0.7 m at 5 m are 8 degrees"
    assert beside.probabilities.sum() == pytest.approx(1) and beside.probabilities.argmax() == 3


def test_a_wall_of_trees_blocks_the_way() -> None:
    wall = Forest(np.array([[3.0, y, 0.3] for y in np.arange(-8, 8.1, 1.0)]))
    assert truth(wall, 0, 0).label == BLOCKED
    assert truth(wall, 0, 0).free < FREE_M <= SIGHT_M


def test_mirrored_pictures_have_mirrored_classes() -> None:
    assert [mirrored(label) for label in (BLOCKED, *LABELS)] == [BLOCKED, *LABELS[::-1]]
    assert len(LABELS) == len(HEADINGS) == 9


def test_the_drone_keeps_to_its_limits() -> None:
    limits = Limits(acceleration=7.0)
    body = Body(DroneState(0, 0), limits)
    fastest = 0.0
    for _ in range(PHYSICS_HZ):
        before = body.state
        body.step(Command(20.0, 0.0))
        fastest = max(fastest, (body.state.vx - before.vx) * PHYSICS_HZ)
    assert fastest == pytest.approx(7.0, rel=1e-3)
    assert body.state.vx == pytest.approx(7.0 * (1 - limits.tilt_s), rel=0.02), "the tilt is late by its time constant"


def test_braking_takes_the_distance_that_its_deceleration_and_its_lateness_ask_for() -> None:
    limits = Limits()
    body = Body(DroneState(0, 0, vx=6.0), limits)
    while body.state.vx > 0.05:
        body.step(HOVER)
    ideal = 6.0**2 / (2 * limits.acceleration)
    assert ideal < body.state.x < ideal + 6.0 * (limits.tilt_s + limits.velocity_s)


def test_clearance_is_from_the_hull_to_the_bark() -> None:
    with ForestWorld(ONE_TREE, Looks.of(1), seed=1, start=DroneState(3.0, 0.0), limits=Limits(radius=0.25)) as world:
        assert world.clearance() == pytest.approx(2.0 - 0.3 - 0.25)


def test_a_tree_is_where_the_camera_s_geometry_says() -> None:
    """Radius 0.3 m, 5 m ahead and 2 m to the left: the tangent of its angle is 0.4."""
    at = Forest(np.array([[5.0, 2.0, 0.3]]))
    with (
        ForestWorld(at, Looks.of(1), seed=1, start=DroneState(0, 0), limits=Limits()) as here,
        ForestWorld(Forest(np.empty((0, 3))), Looks.of(1), seed=1, start=DroneState(0, 0), limits=Limits()) as empty,
    ):
        with_tree, without = (world.camera()[: PICTURE // 3].astype(int) for world in (here, empty))
    changed = np.flatnonzero((np.abs(with_tree - without).sum(axis=2) > 60).mean(axis=0) > 0.5)
    scale = PICTURE / 2 / math.tan(math.radians(FIELD_OF_VIEW / 2))
    middle = PICTURE / 2 - 0.4 * scale
    assert changed.mean() == pytest.approx(middle, abs=3), "the camera rolls by some degrees"
    assert 2 * 0.3 / 5 * scale - 3 < len(changed) < 2 * 0.3 / 5 * scale + 4


def test_pictures_of_a_scene_are_the_same_to_the_last_bit() -> None:
    def pictures() -> list[bytes]:
        found = []
        with Scene(4).open() as world:
            for _ in range(3):
                found.append(world.camera().tobytes())
                for _ in range(60):
                    world.step(Command(5.0, 0.3))
        return found

    first = pictures()
    assert first == pictures() and len(set(first)) == 3


def test_a_corridor_is_wider_than_the_hull() -> None:
    assert Limits().radius < HALF_WIDTH_M
