"""A bundle with tables of the very images that were answered, so that a prediction does not depend on other images."""

from __future__ import annotations

import sys
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from spinn_client.sources.base import pixels_of
from spinn_client.sources.registry import open_source
from spinn_stream.bundle import Bundle
from spinn_stream.codec import CodecSetting, encode_payload
from spinn_stream.frame import crop
from spinn_stream.plan import Conditions, LinkState, Policy, build_table, predict
from spinn_stream.profile import BatchProfile, Profile, Timing
from spinn_stream.runtime import Engine, open_engine
from spinn_stream.train.pack.calibration import Logits, Pixels, batches, collect_logits, confidences
from spinn_stream.train.pack.evaluation import costs_of
from spinn_stream.train.pack.tables import PART, Uncoded, decoded_logits
from spinn_stream.train.pack.thresholds import Scores
from spinn_traces.replay.run.material import Material

Coded = tuple[int, str]
"""Index of a cut point, and the setting that its activations are coded with."""

UNCODED = (0, "png")

_MOMENT = Timing(1.0, 1.0)


@dataclass(frozen=True)
class SameImages:
    """Every exit's logits for N labelled images, as they are played.

    logits: (exits, N, classes), nothing coded. coded: by coding, (N, classes) logits of each exit behind it by name.
    """

    base: Bundle
    labels: npt.NDArray[np.int64]
    logits: Logits
    coded: Mapping[Coded, Mapping[str, Logits]]

    def bundle_of(self, images: Sequence[int]) -> Bundle:
        """The bundle with tables of these images: every threshold's row, and the payload rows of the codings.

        The payload rows that remain are these and the uncoded one: so few that the scheduler plans with all of them.
        Bytes stay those of the bundle: they affect the choice of settings, not the accuracy.
        """
        bundle, labels, logits = self.base, self.labels[images], self.logits[:, images]
        temperatures = tuple(e.temperature for e in bundle.exits)
        sure, right = confidences(logits, temperatures, labels)
        scores = Scores(sure, right, costs_of(bundle))
        thresholds = []
        for row in bundle.thresholds:
            found = scores.play(row.needed)
            thresholds.append(
                replace(row, accuracy=found.accuracy, mean_macs_fraction=found.mean_macs_fraction, share=found.share)
            )
        uncoded = Uncoded(logits, labels, temperatures, [row.needed for row in bundle.thresholds])
        rows = {(row.cut, row.codec): row for row in bundle.payloads}
        payloads = [
            replace(
                rows[UNCODED], lost=(0.0,) * len(thresholds),
                accuracy={e.name: float(r.mean()) for e, r in zip(bundle.exits, right, strict=True)},
            )
        ]  # fmt: skip
        for one, exits in self.coded.items():
            behind = {name: own[images] for name, own in exits.items()}
            kept = {name: float((own.argmax(axis=1) == labels).mean()) for name, own in behind.items()}
            payloads.append(replace(rows[one], accuracy=kept, lost=uncoded.lost(bundle, one[0], behind)))
        return replace(bundle, thresholds=tuple(thresholds), payloads=tuple(payloads))

    def whole(self, images: Sequence[int]) -> npt.NDArray[np.bool_]:
        """Whether the whole network is right on each."""
        return np.asarray(self.logits[-1, images].argmax(axis=1) == self.labels[images])


def same_images(bundle: Bundle, material: Material, coded: Collection[Coded], *, threads: int = 2) -> SameImages:
    """Run every image once without coding, and once for each coding."""
    assert material.truth is not None
    engine = open_engine(bundle, "onnxruntime", threads=threads)
    pixels = pictures(material, bundle.input.size)
    labels = np.array([bundle.labels.index(name) for name in material.truth])
    logits = collect_logits(bundle, engine, pixels, lambda done: _say("uncoded", done, len(pixels)))
    return SameImages(bundle, labels, logits, {one: coded_logits(bundle, engine, pixels, one) for one in coded})


def pictures(material: Material, size: int) -> Pixels:
    """(N, size, size, 3) RGB, each as the client crops it, in the order they are played in."""
    source = open_source(material.source)
    try:
        return np.stack([crop(frame, size) for frame in pixels_of(source)])
    finally:
        source.close()


def coded_logits(bundle: Bundle, engine: Engine, pixels: Pixels, coded: Coded) -> dict[str, Logits]:
    """(N, classes) logits of each exit behind a cut point, by its name, when each activation there is coded alone.

    As `payload_table` does it, a part at a time: the activations of thousands of images would fill the memory.
    """
    cut, setting = coded[0], CodecSetting.parse(coded[1])
    found: dict[str, list[Logits]] = {}
    done = 0
    for x in batches(bundle, pixels, PART):
        y = engine.run(0, cut, x, exit=False)[0] if cut else x
        own = pixels[done : done + len(x)]
        payloads = [encode_payload(bundle, cut, setting, a[None], p) for a, p in zip(y, own, strict=True)]
        for name, logits in decoded_logits(bundle, engine, cut, setting, payloads).items():
            found.setdefault(name, []).append(logits)
        done += len(x)
        _say(f"{bundle.cut_points[cut].name} {setting}", done, len(pixels))
    return {name: np.concatenate(parts) for name, parts in found.items()}


def predicted_drop(bundle: Bundle, plan: Policy) -> float:
    """The scheduler's predicted loss of accuracy of a plan, by the bundle's tables, without late answers.

    Args:
        plan: a policy that knows one plan.
    """
    early = tuple(e.cut for e in bundle.exits[:-1])
    times = BatchProfile(1, (_MOMENT,) * bundle.last, (_MOMENT,) * len(early), 0.0)
    profile = Profile("none", early, (times,), _MOMENT)
    table = build_table(bundle, profile, profile)
    known = np.flatnonzero(plan.plans(bundle, table))
    if not len(known):
        raise ValueError(f"the scheduler does not plan with {plan.name}")
    prediction = predict(table.take(known), Conditions(LinkState(1000.0, 1.0)))
    return prediction.figures(0).accuracy_drop


def _say(what: str, done: int, total: int) -> None:
    end = "\n" if done == total else ""
    print(f"\r{what}: {done} of {total} images", end=end, file=sys.stderr, flush=True)
