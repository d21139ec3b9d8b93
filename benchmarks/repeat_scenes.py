"""What the repeat exit must not miss, played to it frame by frame beside the whole network."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, Self

import numpy as np
import numpy.typing as npt
from skimage import data

from spinn_client import Result
from spinn_stream.bundle import Bundle
from spinn_stream.cli.options import save_figure
from spinn_stream.frame import Pixels, crop, normalise
from spinn_stream.repeat import DEFAULT_MOST_LOST, Repeats
from spinn_stream.repeat.agreement import EDGES
from spinn_stream.repeat.repeats import REFERENCES
from spinn_stream.repeat.thumbnail import Thumbnail, distance, thumbnail
from spinn_stream.runtime import Answer, Engine, answers

FPS = 30.0
CLEAR = 0.1
DRIFT_S, DARKEST = 120.0, 0.5
ENTERS_S, STAYS_S, OBJECT = 40.0, 20.0, 96  # pixels wide
PAN_FRAMES, WINDOW = 600, 0.6


@dataclass(frozen=True)
class Truth:
    """Pictures as the network sees them, RGB, and its answers."""

    pictures: list[Pixels]
    answers: list[Answer]

    @classmethod
    def of_results(cls, bundle: Bundle, pictures: Sequence[Pixels], results: Sequence[Result]) -> Self:
        """pictures: BGR."""
        number = {label: n for n, label in enumerate(bundle.labels)}
        tops = [tuple((number[label], p) for label, p in result.top) for result in results]
        return cls([p[..., ::-1] for p in pictures], [Answer("final", t[0][0], t[0][1], t) for t in tops])

    @classmethod
    def run(cls, bundle: Bundle, engine: Engine, pictures: Iterable[Pixels]) -> Self:
        """pictures: BGR."""
        seen = [crop(picture, bundle.input.size) for picture in pictures]
        return cls(seen, [whole(bundle, engine, picture) for picture in seen])


def whole(bundle: Bundle, engine: Engine, picture: Pixels) -> Answer:
    _, output = engine.run(0, bundle.last, normalise(picture, bundle.input))
    assert output is not None
    return answers("final", output, bundle.exits[-1].temperature)[0]


def margin(answer: Answer) -> float:
    return answer.top[0][1] - answer.top[1][1]


def lost(own: Answer, repeated: Answer) -> float:
    """The accuracy that it costs to say the one for the other."""
    return 0.0 if own.label == repeated.label else own.confidence - dict(own.top).get(repeated.label, 0.0)


def play(truth: Truth) -> dict[str, Any]:
    """A scene, and what the exit made of it. course: a row for each frame."""
    repeats, course, stale = Repeats(), [], 0
    longest = wrong = 0
    before: Answer | None = None
    changes = 0
    for frame, (picture, own) in enumerate(zip(truth.pictures, truth.answers, strict=True)):
        look = repeats.look(frame, picture, frame / FPS)
        if look.answer is None or look.audit:
            repeats.answered(frame, own)
        given = look.answer or own
        clear = margin(own) >= CLEAR
        changed = before is not None and clear and margin(before) >= CLEAR and before.label != own.label
        changes += changed
        stale += changed and before is not None and given.label == before.label
        wrong = wrong + 1 if clear and given.label != own.label else 0
        longest = max(longest, wrong)
        before = own
        course.append((look.change, repeats.limit, look.answer is not None, look.audit, lost(own, given),
                       clear, given.label == own.label))  # fmt: skip
    again = np.array([row[2] for row in course])
    same, clear_ones = np.array([row[6] for row in course]), np.array([row[5] for row in course])
    losses = np.array([row[4] for row in course])
    return {
        "frames": len(course), "repeated": round(float(again.mean()), 4), "audits": repeats.audits,
        "clear_changes": changes, "answered_with_the_old_label": stale, "longest_wrong_frames": longest,
        "agreement": round(float(same.mean()), 4), "agreement_clear": round(float(same[clear_ones].mean()), 4),
        "lost_of_repeats": round(float(losses[again].mean()), 5) if again.any() else 0.0,
        "within": bool(not again.any() or losses[again].mean() <= DEFAULT_MOST_LOST), "course": course,
    }  # fmt: skip


def scenes(bundle: Bundle, engine: Engine, truths: Mapping[str, Truth]) -> dict[str, Any]:
    """truths: by the clip's name."""
    clips = list(truths.values())
    still = max(clips, key=lambda clip: len(clip.pictures))

    def made(frames: int, change: Callable[[int, Pixels], Pixels]) -> Truth:
        pictures = (change(n, still.pictures[n % len(still.pictures)]) for n in range(frames))
        return Truth.run(bundle, engine, (p[..., ::-1] for p in pictures))

    return {
        "cuts": play(interleaved(clips)),
        "drift": play(made(round(DRIFT_S * FPS), drift)),
        "object": play(made(round((ENTERS_S + STAYS_S) * FPS), Entering(bundle.input.size))),
        "moving camera": play(made(PAN_FRAMES, pan)),
    }


def interleaved(clips: Sequence[Truth]) -> Truth:
    """A cut after each frame, from clip to clip, until the longest ends."""
    frames = [(n % len(clip.pictures), clip) for n in range(max(len(c.pictures) for c in clips)) for clip in clips]
    return Truth([clip.pictures[n] for n, clip in frames], [clip.answers[n] for n, clip in frames])


def drift(frame: int, picture: Pixels) -> Pixels:
    """It gets dark: to half of the light in two minutes."""
    light = 1 - (1 - DARKEST) * frame / (DRIFT_S * FPS)
    return (picture * light).astype(np.uint8)


class Entering:
    """An espresso cup slides in from the left, for 40 s, and stays."""

    def __init__(self, size: int) -> None:
        self._cup = crop(np.asarray(data.coffee(), np.uint8)[..., ::-1], OBJECT * size // 224)

    def __call__(self, frame: int, picture: Pixels) -> Pixels:
        width = min(len(self._cup), round(len(self._cup) * frame / (ENTERS_S * FPS)))
        if width:
            picture = picture.copy()
            picture[-len(self._cup) :, :width] = self._cup[:, -width:]
        return picture


def pan(frame: int, picture: Pixels) -> Pixels:
    """A camera that never rests: a window that wanders over the picture."""
    side = round(WINDOW * len(picture))
    y, x = (round((len(picture) - side) * (0.5 + 0.5 * np.sin(frame / period))) for period in (23, 17))
    return picture[y : y + side, x : x + side]


def classes(truths: Iterable[Truth]) -> dict[str, Any]:
    """By class of change: frames, how many got another answer than the nearest of the last ones, and the mean loss."""
    edges = [0.0, *EDGES, float("inf")]
    rows = np.zeros((len(EDGES) + 1, 3))
    for change, own, near in (pair for truth in truths for pair in neighbours(truth)):
        at = int(np.searchsorted(edges, change, side="right")) - 1
        rows[min(at, len(EDGES))] += 1, own.label != near.label, lost(own, near)
    return {
        f"{low:g} to {high:g}": {
            "frames": int(n), "another_answer": int(other), "lost": round(float(total / n), 5) if n else None,
        }
        for (low, high), (n, other, total) in zip(pairwise(edges), rows, strict=True)
    }  # fmt: skip


def neighbours(truth: Truth) -> Iterator[tuple[float, Answer, Answer]]:
    """Of each frame: the least change from one of the last frames, its own answer, and that frame's."""
    small: list[Thumbnail] = [thumbnail(picture) for picture in truth.pictures]
    for n in range(1, len(small)):
        before = range(max(0, n - REFERENCES), n)
        changes = [distance(small[n], small[k]) / max(margin(truth.answers[k]), 1e-6) for k in before]
        at = int(np.argmin(changes))
        yield changes[at], truth.answers[n], truth.answers[before[at]]


def plot_scenes(file: Path, found: Mapping[str, Any]) -> None:
    """Drift and object over time: the change that the exit saw, its limit, and what was lost."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 6), layout="constrained")
    axes = figure.subplots(2, 2, sharex="col")
    for column, name in enumerate(("drift", "object")):
        course = np.array(found[name]["course"], np.float64)
        seconds = np.arange(len(course)) / FPS
        change, limit, again, audit, loss = course.T[:5]
        above, below = axes[0][column], axes[1][column]
        above.set_title("brightness falls to a half" if name == "drift" else "a cup slides in for 40 s")
        above.plot(seconds, np.minimum(change, EDGES[-1]), ".", ms=2, label="change of the frame")
        above.plot(seconds, limit, "k-", lw=1, label="limit")
        above.plot(seconds[audit > 0], change[audit > 0], "r.", ms=5, label="audited")
        bound: npt.NDArray[np.float64] = np.cumsum(loss * again) / np.maximum(np.cumsum(again), 1)
        below.plot(seconds, 100 * bound, label="lost by repeats so far, points")
        below.axhline(100 * DEFAULT_MOST_LOST, color="k", lw=1, label="allowed")
        below.set_xlabel("s")
        for axis in (above, below):
            axis.legend(fontsize=7)
    save_figure(figure, file)
