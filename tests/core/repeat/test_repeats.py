"""What is repeated, and what must not be: pictures as a camera sees them, and numbers for clocks."""

from __future__ import annotations

import random

import numpy as np
import numpy.typing as npt
import pytest

from spinn_stream.frame import Pixels, crop
from spinn_stream.repeat import Look, Repeats
from spinn_stream.repeat.repeats import MOST_LOOKS, OLDEST_S, REFERENCES
from spinn_stream.repeat.thumbnail import distance, thumbnail
from spinn_stream.runtime import Answer

SIZE = 224
FPS = 30.0
SURE = Answer("final", 3, 0.95, ((3, 0.95), (4, 0.01)))  # a margin of 0.94


@pytest.fixture
def scene(photographs: list[Pixels]) -> Pixels:
    """A photograph, as a camera that hangs still sees it."""
    return crop(photographs[0], SIZE)


def noisy(picture: Pixels, seed: int) -> Pixels:
    """The same scene once more: a sensor's noise of 2 of 255 in every pixel."""
    noise = np.random.default_rng(seed).normal(0, 2, picture.shape)
    return np.clip(picture + noise, 0, 255).astype(np.uint8)


def lighter(picture: Pixels, by: float) -> Pixels:
    """by: of 255."""
    return np.clip(picture.astype(np.float64) + by, 0, 255).astype(np.uint8)


class Camera:
    """Frames at 30 a second; the network gives the answer that is asked for."""

    def __init__(self, **options: float) -> None:
        self.repeats = Repeats(**{"audit_rate": 0.0, **options})
        self.frame = -1
        self.now = 0.0

    def shows(self, picture: Pixels, answer: Answer = SURE, *, after_s: float = 1 / FPS) -> Look:
        """One frame. If no answer is repeated, or that is audited, the network gives `answer`."""
        self.frame += 1
        self.now += after_s
        look = self.repeats.look(self.frame, picture, self.now)
        if look.answer is None or look.audit:
            self.repeats.answered(self.frame, answer)
        return look


def repeated(look: Look) -> int | None:
    """The frame whose answer a look repeats."""
    return None if look.answer is None or look.nearest is None else look.nearest.frame


def test_a_still_scene_is_answered_once(scene: Pixels) -> None:
    camera = Camera()
    looks = [camera.shows(noisy(scene, n)) for n in range(30)]
    assert [repeated(look) for look in looks] == [None] + [0] * 29
    assert all(look.answer == Answer("repeat", 3, 0.95, SURE.top) for look in looks[1:])


def test_a_scene_cut_is_never_repeated(photographs: list[Pixels]) -> None:
    camera = Camera()
    for n, picture in enumerate(photographs * 3):  # each comes back: then it is its own answer that is repeated
        look = camera.shows(crop(picture, SIZE), Answer("final", n % len(photographs), 0.95, ((n % 3, 0.95),)))
        if look.answer is not None:
            assert look.answer.label == n % len(photographs) and n >= len(photographs)


def test_a_slow_drift_is_run_again_and_again(scene: Pixels) -> None:
    """Of 60 steps of 1 of 255 each no single one is noticed; no answer is repeated over more than the limit."""
    camera = Camera()
    looks = [camera.shows(lighter(scene, step)) for step in range(60)]
    assert sum(look.answer is None for look in looks) >= 60 / 255 / camera.repeats.limit / 2
    assert all(look.change < camera.repeats.limit for look in looks if look.answer is not None)


def test_a_change_of_light_is_run_again(scene: Pixels) -> None:
    camera = Camera()
    camera.shows(scene)
    assert camera.shows(lighter(scene, 8)).answer is None  # a lamp: 3 % of the range


@pytest.mark.parametrize("corner", [(0, 0), (SIZE - 24, 0), (SIZE - 24, SIZE - 24), (3, SIZE - 27)])
def test_a_new_object_in_a_corner_is_seen(scene: Pixels, corner: tuple[int, int]) -> None:
    """It is 24 pixels wide, a hundredth of the picture, and 50 of 255 lighter than what was there."""
    camera = Camera()
    camera.shows(scene)
    y, x = corner
    changed = scene.copy()
    patch = changed[y : y + 24, x : x + 24].astype(np.int16)
    changed[y : y + 24, x : x + 24] = np.where(patch.mean() < 128, patch + 50, patch - 50).clip(0, 255)
    assert camera.shows(changed).answer is None


def test_a_reference_that_is_too_old_is_run_again(scene: Pixels) -> None:
    camera = Camera()
    camera.shows(scene)
    assert repeated(camera.shows(scene, after_s=OLDEST_S * 0.99)) == 0
    assert repeated(camera.shows(scene, after_s=OLDEST_S * 0.02)) is None


def test_a_reference_that_was_wrong_is_found_out_by_an_audit_and_replaced(scene: Pixels) -> None:
    """Half of the repeats are audited. The first audit takes its own answer for the wrong one."""
    camera = Camera(audit_rate=0.5)
    camera.shows(scene, Answer("final", 7, 0.9, ((7, 0.9), (3, 0.05))))
    looks = [camera.shows(scene) for _ in range(20)]
    first = next(n for n, look in enumerate(looks) if look.audit)
    assert all(look.answer is not None and look.answer.label == 7 for look in looks[: first + 1])
    assert camera.repeats.disagreed == 1
    assert all(look.answer is None or look.answer.label == 3 for look in looks[first + 1 :])


def test_a_camera_on_which_the_network_wavers_closes_the_exit(scene: Pixels) -> None:
    """Each frame is another class with full confidence, though nothing is to be seen of it."""
    camera = Camera(audit_rate=0.05)
    rng = random.Random(1)
    looks = [camera.shows(scene, Answer("final", n := rng.randrange(2), 0.9, ((n, 0.9),))) for _ in range(2000)]
    wrong_at_most = 10 / 0.05  # some ten audits are enough
    assert sum(look.answer is not None and not look.audit for look in looks) < wrong_at_most
    assert camera.repeats.limit == 0.0


def test_an_unsure_answer_is_repeated_over_smaller_changes_only(scene: Pixels) -> None:
    unsure = Answer("final", 3, 0.4, ((3, 0.4), (4, 0.3)))  # a margin of 0.1
    small, large = lighter(scene, 0.3), lighter(scene, 2)
    assert distance(thumbnail(scene), thumbnail(large)) < 0.0141
    for answer, again in ((SURE, True), (unsure, False)):
        camera = Camera()
        camera.shows(scene, answer)
        assert (camera.shows(large, answer).answer is not None) == again
    camera = Camera()
    camera.shows(scene, unsure)
    assert camera.shows(small, unsure).answer is not None


def test_about_the_asked_share_of_repeats_is_audited(scene: Pixels) -> None:
    camera = Camera(audit_rate=0.1)
    for _ in range(3000):
        camera.shows(scene, after_s=0.0)
    assert 200 < camera.repeats.audits < 400 and camera.repeats.disagreed == 0
    assert camera.repeats.share == pytest.approx(0.9, abs=0.05)


def test_what_is_held_is_bounded_though_answers_never_come(scene: Pixels) -> None:
    repeats = Repeats()
    for frame in range(1000):
        repeats.look(frame, scene, 0.0)
    for frame in range(1000):
        repeats.answered(frame, SURE)
    repeats.look(1000, scene, 0.0)
    assert len(repeats._looks) <= MOST_LOOKS and len(repeats._references) <= REFERENCES
    thumbnails: list[npt.NDArray[np.float32]] = [thumbnail(scene)] * (MOST_LOOKS + REFERENCES)
    assert sum(t.nbytes for t in thumbnails) < 4e6


def test_an_answer_counts_once(scene: Pixels) -> None:
    repeats = Repeats()
    repeats.look(0, scene, 0.0)
    repeats.answered(0, SURE)
    repeats.answered(0, Answer("final", 5, 0.99, ((5, 0.99),)))
    look = repeats.look(1, scene, 0.1)
    assert look.nearest is not None and look.nearest.answer == SURE


def under_way(camera: Camera, picture: Pixels) -> int:
    """A frame that has no answer yet."""
    camera.frame += 1
    camera.repeats.look(camera.frame, picture, camera.now)
    return camera.frame


def test_of_frames_under_way_the_nearest_is_named_if_its_answer_would_be_repeated(scene: Pixels) -> None:
    """Over the margin of the reference that it was nearest to, as its own is not known yet."""
    unsure = Answer("final", 3, 0.4, ((3, 0.4), (4, 0.3)))  # a margin of 0.1
    for reference, expected in ((SURE, True), (unsure, False)):
        camera = Camera()
        camera.shows(lighter(scene, -60), reference)
        near, nearer, other = (under_way(camera, lighter(scene, by)) for by in (2, 1, 60))
        frame = under_way(camera, scene)
        assert camera.repeats.nearest_of(frame, [near, nearer, other]) == (nearer if expected else None)
        assert camera.repeats.nearest_of(frame, [near, other, frame]) == (near if expected else None)
        assert camera.repeats.nearest_of(frame, [other]) is None
        assert camera.repeats.nearest_of(frame, []) is None


def test_as_long_as_no_answer_is_known_none_is_expected(scene: Pixels) -> None:
    camera = Camera()
    first, second = under_way(camera, scene), under_way(camera, scene)
    assert camera.repeats.nearest_of(second, [first]) is None


def test_a_second_look_sees_the_answers_since_the_first(scene: Pixels) -> None:
    camera = Camera()
    first, second = under_way(camera, scene), under_way(camera, noisy(scene, 1))
    before = camera.repeats.look_again(second, camera.now)
    assert before is not None and before.answer is None
    camera.repeats.answered(first, SURE)
    look = camera.repeats.look_again(second, camera.now)
    assert look is not None and look.answer is not None and repeated(look) == first
    assert camera.repeats.look_again(second, camera.now) is None, "it has its answer"
    camera.repeats.answered(second, Answer("final", 5, 0.99, ((5, 0.99),)))
    assert repeated(camera.shows(noisy(scene, 1))) == first, "a repeat is no reference"


def test_a_second_look_may_be_an_audit_which_goes_the_full_way(scene: Pixels) -> None:
    camera = Camera(audit_rate=1.0)
    first, second = under_way(camera, scene), under_way(camera, scene)
    camera.repeats.answered(first, SURE)
    look = camera.repeats.look_again(second, camera.now)
    assert look is not None and look.answer is not None and look.audit
    assert camera.repeats.look_again(second, camera.now) is None, "it is an audit"
    camera.repeats.answered(second, Answer("final", 5, 0.99, ((5, 0.99),)))
    camera.repeats.look(camera.frame + 1, scene, camera.now)
    assert (camera.repeats.audits, camera.repeats.disagreed) == (1, 1)
