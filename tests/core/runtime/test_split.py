"""The central promise: at every cut point, head then tail is the whole network."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import onnxruntime as ort
import pytest

from spinn_stream.bundle import EXIT_PREFIX, Bundle, load_bundle
from spinn_stream.codec import CodecSetting, decode_payload, default_setting, encode_payload
from spinn_stream.frame import crop, normalise
from spinn_stream.runtime import Engine

from ...bundles import LITE2_200

Floats = npt.NDArray[np.float32]
IMAGES, BATCH = 1000, 25
SHARES = 10
"""Each split is judged by every tenth batch, another one than its neighbours: so all pictures count."""


def walk(engine: Engine, bundle: Bundle, start: int, stop: int, x: Floats) -> tuple[Floats, dict[int, Floats]]:
    """Activation at `stop` and the logits of every exit on the way."""
    logits: dict[int, Floats] = {}
    for begin, end in bundle.pieces(start, stop):
        x, found = engine.run(begin, end, x)
        if found is not None:
            logits[end] = found.logits
    return x, logits


@pytest.fixture(scope="module")
def whole(bundle: Bundle, inputs: Floats) -> dict[int, Floats]:
    """Every exit's logits from the uncut graph, run by ONNX Runtime without any of our code."""
    session = ort.InferenceSession(str(bundle.graph_path), providers=["CPUExecutionProvider"])
    names = [EXIT_PREFIX + e.name for e in bundle.exits[:-1]] + [bundle.exits[-1].name]
    outputs = session.run(names, {"input": inputs})
    return {e.cut: out for e, out in zip(bundle.exits, outputs, strict=True)}


@pytest.mark.parametrize("split", range(load_bundle(LITE2_200).last + 1))
def test_head_then_tail_equals_the_whole_network(
    bundle: Bundle, engine: Engine, inputs: Floats, whole: dict[int, Floats], split: int
) -> None:
    activation, head = walk(engine, bundle, 0, split, inputs)
    _, tail = walk(engine, bundle, split, bundle.last, activation)
    assert activation.shape == (len(inputs), *bundle.cut_points[split].shape)
    for cut, logits in (head | tail).items():
        assert np.abs(logits - whole[cut]).max() <= 1e-4
    assert (head | tail).keys() == whole.keys()


@pytest.mark.parametrize("split", [0, 5, 9, 16])
def test_a_batch_gives_what_its_images_give_alone(bundle: Bundle, engine: Engine, inputs: Floats, split: int) -> None:
    together, _ = walk(engine, bundle, 0, split, inputs)
    _, batch = walk(engine, bundle, split, bundle.last, together)
    for i in range(len(inputs)):
        _, alone = walk(engine, bundle, split, bundle.last, together[i : i + 1])
        assert np.abs(alone[bundle.last][0] - batch[bundle.last][i]).max() <= 1e-4


@pytest.fixture(scope="module")
def val(bundle: Bundle, shared: Path) -> list[npt.NDArray[np.uint8]]:
    """The first 1,000 pictures of val.parquet as the network sees them."""
    parquet = pytest.importorskip("pyarrow.parquet")
    column = parquet.read_table(shared / "data/tiny-imagenet-200/val.parquet", columns=["image"])["image"][:IMAGES]
    frames = [cv2.imdecode(np.frombuffer(image.as_py(), np.uint8), cv2.IMREAD_COLOR_BGR) for image in column]
    return [crop(frame, bundle.input.size) for frame in frames]


@dataclass
class Uncoded:
    """The pictures in batches, and the labels that the uncoded network gives a batch, once it was asked for."""

    inputs: list[Floats]
    labels: dict[int, list[int]]


@pytest.fixture(scope="module")
def uncoded(bundle: Bundle, val: list[npt.NDArray[np.uint8]]) -> Uncoded:
    starts = range(0, len(val), BATCH)
    return Uncoded([np.concatenate([normalise(p, bundle.input) for p in val[i : i + BATCH]]) for i in starts], {})


def label_stays(
    bundle: Bundle,
    engine: Engine,
    val: list[npt.NDArray[np.uint8]],
    uncoded: Uncoded,
    split: int,
    setting: CodecSetting,
) -> float:
    """Share of the pictures whose label is the same through the codec, each coded alone."""
    coded, sizes, labels = [], [], []
    for n, x in list(enumerate(uncoded.inputs))[split % SHARES :: SHARES]:
        if n not in uncoded.labels:
            uncoded.labels[n] = walk(engine, bundle, 0, bundle.last, x)[0].argmax(axis=1).tolist()
        labels += uncoded.labels[n]
        activations, _ = walk(engine, bundle, 0, split, x)
        pictures = slice(BATCH * n, BATCH * (n + 1))
        payloads = [
            encode_payload(bundle, split, setting, a[None], picture)
            for a, picture in zip(activations, val[pictures], strict=True)
        ]
        received = [decode_payload(bundle, split, setting.codec, payload) for payload in payloads]
        final, _ = walk(engine, bundle, split, bundle.last, np.concatenate(received))
        coded += final.argmax(axis=1).tolist()
        sizes += [len(payload) for payload in payloads]
    agree = float(np.mean(np.array(coded) == np.array(labels)))
    name = bundle.cut_points[split].name
    print(f"{name}, {setting}: the label stays on {100 * agree:.1f} %, {np.mean(sizes):.0f} bytes")
    assert len(coded) == IMAGES // SHARES
    return agree


def test_a_frame_as_png_keeps_every_label(
    bundle: Bundle, engine: Engine, val: list[npt.NDArray[np.uint8]], uncoded: Uncoded
) -> None:
    """The default at split 0 is JPEG, which is judged by accuracy: docs/codec.md."""
    assert label_stays(bundle, engine, val, uncoded, 0, CodecSetting("png", None)) == 1


@pytest.mark.slow
def test_through_the_default_codec_the_label_stays_on_99_of_100_pictures(
    bundle: Bundle, engine: Engine, val: list[npt.NDArray[np.uint8]], uncoded: Uncoded
) -> None:
    """Over all splits; on each one's own tenth of the pictures it may be two standard errors less."""
    splits = range(1, bundle.last)
    agree = [label_stays(bundle, engine, val, uncoded, n, default_setting(bundle, n)) for n in splits]
    assert min(agree) >= 0.99 - 2 * (0.99 * 0.01 / (IMAGES // SHARES)) ** 0.5
    assert np.mean(agree) >= 0.99
