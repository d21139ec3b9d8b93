"""What a camera's pictures are like is learned from the frames themselves."""

from __future__ import annotations

import random

import numpy as np
import pytest

from spinn_client.steering.learned import OVER, Learned, Pictures
from spinn_stream.bundle import Bundle
from spinn_stream.codec import CodecSetting
from spinn_stream.plan.predict.exits import Exits, of_those_that_come, shifted

THRESHOLD = 0.72


@pytest.fixture(scope="module")
def share(bundle: Bundle) -> np.ndarray:
    """(E,), by the tables."""
    exits = Exits(bundle)
    return np.asarray(exits.share[exits.thresholds.index(THRESHOLD)])


def answered(bundle: Bundle, share: np.ndarray, rng: random.Random) -> int:
    """Cut point of the exit that answers a frame, drawn."""
    return rng.choices([e.cut for e in bundle.exits], share.tolist())[0]


def planned(bundle: Bundle, pictures: Pictures) -> np.ndarray:
    exits = Exits(bundle, pictures.shifts)
    return np.asarray(exits.share[exits.thresholds.index(THRESHOLD)])


@pytest.mark.parametrize("stop", [11, 24])
def test_harder_frames_are_planned_with(bundle: Bundle, share: np.ndarray, stop: int) -> None:
    """Exits answer as they do where their log-odds are lower by 1.2; both are on the device, or one on the server."""
    rng, pictures, last = random.Random(1), Pictures(bundle), bundle.last
    split = min(stop, last)
    real = shifted(share[None], [-1.2, -1.2])[0]
    for _ in range(1500):
        exit_cut = answered(bundle, real, rng)
        pictures.went(THRESHOLD, 0, split, exit_cut if exit_cut <= split else None)
        if exit_cut > split:
            pictures.went(THRESHOLD, split, last, exit_cut)
    assert np.abs(share - real).max() > 0.15
    assert planned(bundle, pictures) == pytest.approx(real, abs=0.06)


def test_frames_like_those_of_the_tables_change_nothing(bundle: Bundle, share: np.ndarray) -> None:
    rng, pictures = random.Random(2), Pictures(bundle)
    for _ in range(200):
        pictures.went(THRESHOLD, 0, bundle.last, answered(bundle, share, rng))
    assert max(map(abs, pictures.shifts)) < 0.35


def test_what_no_frame_came_to_is_as_in_the_tables(bundle: Bundle) -> None:
    pictures, (first, second) = Pictures(bundle), [e.cut for e in bundle.exits[:-1]]
    for _ in range(500):
        pictures.went(THRESHOLD, 0, first, None)
        pictures.went(None, 0, bundle.last, bundle.last)  # no exit may answer
        pictures.went(THRESHOLD, first, second - 1, None)
    shifts = pictures.shifts
    assert shifts[0] < -2
    assert shifts[1] == 0


def test_scenes_wear_off(bundle: Bundle, share: np.ndarray) -> None:
    pictures, rng, expected = Pictures(bundle), random.Random(3), of_those_that_come(share[None])[0]
    for _ in range(400):
        pictures.went(THRESHOLD, 0, bundle.exits[0].cut, None)
    assert pictures.shifts[0] < -2
    for _ in range(2500):
        pictures.went(THRESHOLD, 0, bundle.exits[0].cut, bundle.exits[0].cut if rng.random() < expected[0] else None)
    assert pictures.shifts[0] == pytest.approx(0.0, abs=0.35)


def test_payloads_that_take_more_bytes_are_learned_by_codec(bundle: Bundle) -> None:
    pictures = Pictures(bundle)
    sizes = {row.codec: row.bytes_mean for row in bundle.payloads if row.cut == 0}
    for _ in range(3 * OVER):
        pictures.coded(0, CodecSetting("jpeg", 95), round(1.5 * sizes["jpeg:95"]))
        pictures.coded(0, CodecSetting("png", None), round(0.8 * sizes["png"]))
        pictures.coded(0, CodecSetting("jpeg", 1), 1)  # of a setting without a table
    assert pictures.payload_factors == pytest.approx({"jpeg": 1.5, "png": 0.8}, abs=0.02)


def test_the_first_event_is_not_all_that_counts_and_the_last_ones_count_most() -> None:
    learned = Learned()
    assert (learned.ratio, learned.beyond, learned.shift) == (1.0, 0.0, 0.0)
    learned.add(10.0, 20.0)
    assert 1.0 < learned.ratio < 1.1
    for _ in range(5 * OVER):
        learned.add(10.0, 20.0)
    assert learned.ratio == pytest.approx(2.0, abs=0.01) and learned.beyond == pytest.approx(10.0, abs=0.1)
    for _ in range(5 * OVER):
        learned.add(10.0, 5.0)
    assert learned.ratio == pytest.approx(0.5, abs=0.02) and learned.beyond == 0.0
