"""What does a frame cost on the network, and what does coding lose? The transform codec against SPINN's CNN-CO.

    python benchmarks/codec.py --images val.parquet --clips FOLDER [--json] [--bits 6] [--plot docs/codec.svg]

At the first cut point of `lite2-200`'s 8x8 stage; every byte of a message counted, its header too.

- intra: every frame is a key frame. inter: as a client sends it: only frames that no exit on the device answers
  (default threshold), each as a change since the newest acknowledged frame, at least 100 ms old, if that is smaller.
- top1: of the final exit on the images, without coding and from key frames. clip_agreement: share of the clips' sent
  frames that keep their uncoded label, among those whose two best classes are 0.1 or more apart.
- entropy: bits of a code, over the zeroth-order entropy of its group (for each frame), and over the entropy given the
  reference's value (-2..2) over a whole clip, which a coder with that context could reach.
- jpeg_bytes_same_accuracy: the smallest JPEG of the pictures that loses no more points than intra is allowed to.
- cuts: the same at every cut point, on the first images and frames only.

One thread. The plot shows every cut point and setting, from the bundle's tables (`spinn calibrate`).
"""

from __future__ import annotations

import os

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # before numpy: all times are of one thread

import argparse
import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from lite2_200 import LITE2_200
from rich.console import Console
from rich.table import Table

from spinn_stream.bundle import Bundle, load_bundle
from spinn_stream.cli.options import save_figure
from spinn_stream.codec import (
    CodecSetting,
    PayloadReceiver,
    PayloadSender,
    decode_payload,
    encode_payload,
    entropy,
    transform,
)
from spinn_stream.codec.basis import Basis, basis_of, block_side
from spinn_stream.codec.payload_tables import POINTS_LOST, frame_is_smaller, smallest_row
from spinn_stream.frame import crop, normalise
from spinn_stream.runtime import Engine, open_engine
from spinn_stream.runtime.exits import probabilities
from spinn_stream.train.data.datasets import load_dataset
from spinn_stream.wire import Infer, encode

MARGIN = 0.1
REFERENCE_AGE_S = 0.1
FEW_IMAGES, FEW_FRAMES = 1000, 150  # at every cut point
NO_PICTURE = np.empty((0, 0, 3), np.uint8)
BASELINE = CodecSetting("cnn-co", 8)


@dataclass
class Clip:
    name: str
    fps: float
    pictures: np.ndarray  # (N, size, size, 3) RGB


def message_bytes(payload: bytes, request: int, split: int, codec: str, threshold: float) -> int:
    """Bytes of the whole request."""
    return len(encode(Infer(request, split, codec, threshold, 123.0, payload)))


def read_clips(folder: Path, size: int) -> list[Clip]:
    clips = []
    for path in sorted(p for p in folder.iterdir() if p.suffix in (".mp4", ".mkv", ".avi", ".webm")):
        capture = cv2.VideoCapture(str(path))
        fps, pictures = capture.get(cv2.CAP_PROP_FPS), []
        while True:
            there, frame = capture.read()
            if not there:
                break
            pictures.append(crop(frame, size))
        clips.append(Clip(path.name, fps, np.stack(pictures)))
    return clips


def parts(x: np.ndarray, size: int = 50) -> Iterator[np.ndarray]:
    for i in range(0, len(x), size):
        yield x[i : i + size]


class Network:
    """`lite2-200` on one engine, in batches."""

    def __init__(self, bundle: Bundle, engine: Engine) -> None:
        self.bundle, self.engine = bundle, engine

    def inputs(self, pictures: np.ndarray) -> np.ndarray:
        return np.concatenate([normalise(p, self.bundle.input) for p in pictures])

    def run(self, start: int, stop: int, x: np.ndarray) -> np.ndarray:
        return np.concatenate([self.engine.run(start, stop, p, exit=False)[0].copy() for p in parts(x)])

    def final(self, start: int, x: np.ndarray) -> np.ndarray:
        return self.run(start, self.bundle.last, x)

    def answered_on_device(self, x: np.ndarray, split: int, threshold: float) -> np.ndarray:
        """(N,) bool: some exit up to the split is confident."""
        found = np.zeros(len(x), bool)
        needed = self.bundle.needed(threshold)
        at = 0
        for cut in sorted(c for c in needed if c <= split):
            logits, following = [], []
            for p in parts(x):
                y, own = self.engine.run(at, cut, p)
                following.append(y.copy())
                assert own is not None
                logits.append(own.logits.copy())
            x, at = np.concatenate(following), cut
            temperature = self.bundle.exit_at[cut].temperature
            found |= probabilities(np.concatenate(logits), temperature).max(axis=1) >= needed[cut]
        return found


def clear(logits: np.ndarray, bundle: Bundle) -> np.ndarray:
    p = np.sort(probabilities(logits, bundle.exits[-1].temperature), axis=1)
    return p[:, -1] - p[:, -2] >= MARGIN


def stream(
    bundle: Bundle, split: int, setting: CodecSetting, activations: np.ndarray, sent: np.ndarray, fps: float
) -> tuple[list[int], list[bool], np.ndarray]:
    """One clip as a client sends it: bytes of each message, whether it was a key frame, and the decoded activations."""
    sender, receiver = PayloadSender(bundle), PayloadReceiver(bundle)
    waiting: list[int] = []
    sizes, keys, decoded = [], [], []
    for i in np.flatnonzero(sent):
        while waiting and (i - waiting[0]) / fps >= REFERENCE_AGE_S - 1e-9:
            sender.acknowledge(waiting.pop(0))
        payload = sender.encode(int(i), split, setting, activations[i][None], NO_PICTURE)
        decoded.append(receiver.decode(int(i), split, setting.codec, payload)[0])
        waiting.append(int(i))
        sizes.append(message_bytes(payload, int(i), split, setting.codec, bundle.default_threshold))
        keys.append(setting.codec != transform.NAME or transform.is_key(payload))
    return sizes, keys, np.stack(decoded)


def entropies(basis: Basis, bits: int, activations: np.ndarray, lag: int) -> dict[str, float]:
    """Bytes of changes over two bounds."""
    step = 1 << (transform.BITS[-1] - bits)
    held: list[np.ndarray] = []
    spent = zeroth = 0.0
    joint = np.zeros((5, 2 * entropy.LARGEST + 1))
    ends = entropy.group_bounds(basis.elements, transform.FIRST_OF_CHANGE, transform.GROUPS)
    for i, activation in enumerate(activations):
        if i < lag:
            held.append(transform.encode_key(basis, bits, activation)[1])
            continue
        payload, grid = transform.encode(basis, bits, activation, (i, held[i - lag]))
        if not transform.is_key(payload):
            codes = np.clip((grid.astype(np.int32) - held[i - lag]) // step, -127, 127).ravel()
            spent += len(payload)
            for a, b in zip((0, *ends[:-1]), ends, strict=True):
                counts = np.bincount(codes[a:b] + 127)
                counts = counts[counts > 0]
                zeroth -= float((counts * np.log2(counts / counts.sum())).sum()) / 8
            context = np.clip(np.rint(held[i - lag] / step), -2, 2).astype(int).ravel() + 2
            np.add.at(joint, (context, codes + 127), 1)
        held.append(grid)
    rows = joint.sum(axis=1, keepdims=True)
    share = joint / np.maximum(rows, 1)
    conditional = -float((joint * np.log2(np.where(share > 0, share, 1))).sum()) / 8
    return {"over_zeroth_order": round(spent / zeroth, 4), "over_conditional": round(spent / conditional, 4)}


def milliseconds(work: Callable[[], object], runs: int = 200) -> float:
    times = []
    for _ in range(runs):
        began = time.perf_counter()
        work()
        times.append(time.perf_counter() - began)
    return 1000 * float(np.median(times))


def times(basis: Basis, bits: int, before: np.ndarray, now: np.ndarray) -> dict[str, float]:
    """Of a change and of a key frame, in ms, from activation to payload and back."""
    key, held = transform.encode_key(basis, bits, before)
    change, _ = transform.encode(basis, bits, now, (1, held), key_bytes=2 * len(key))
    size = 2 * len(key)
    return {
        "encode_ms": round(milliseconds(lambda: transform.encode(basis, bits, now, (1, held), key_bytes=size)), 3),
        "decode_ms": round(milliseconds(lambda: basis.from_grid(transform.decode(basis, change, lambda _: held))), 3),
        "encode_key_ms": round(milliseconds(lambda: transform.encode_key(basis, bits, now)), 3),
        "decode_key_ms": round(milliseconds(lambda: basis.from_grid(transform.decode(basis, key, lambda _: None))), 3),
    }


def wide_basis(like: Basis) -> Basis:
    """80 components of 14x14 places, as strong as the benchmark's: 15,680 elements for the times."""
    rng = np.random.default_rng(0)
    turn = np.linalg.qr(rng.normal(size=(80, 80)))[0]
    energy = np.interp(np.linspace(0, 1, 80), np.linspace(0, 1, len(like.component)), like.component)
    unit = np.sqrt(like.component.mean())
    side = block_side(14, 14)
    fall = np.add.outer(np.arange(side), np.arange(side))
    return Basis(
        (80, 14, 14), np.zeros(80, np.float32), (turn / unit).astype(np.float32), (turn.T * unit).astype(np.float32),
        energy.astype(np.float32), np.exp(-0.3 * fall).astype(np.float32),
    )  # fmt: skip


def wide_times(basis: Basis, bits: int) -> dict[str, float]:
    """Times at 15,680 elements, a picture and one a little later, of the benchmark's strength."""
    wide = wide_basis(basis)
    rng = np.random.default_rng(1)
    scale = np.sqrt(wide.component / wide.component.mean())[:, None] / 0.019
    z = rng.normal(size=(80, 196)) * scale
    moved = z + 0.15 * rng.normal(size=(80, 196)) * scale
    before, now = ((wide.backward @ x.astype(np.float32)).reshape(wide.shape) for x in (z, moved))
    return {"elements": wide.elements, **times(wide, bits, before, now)}


def jpeg(network: Network, pictures: np.ndarray, labels: np.ndarray, least: float) -> tuple[int | None, float | None]:
    """(quality, mean bytes) of the coarsest JPEG that is right at least that often."""
    for quality in range(40, 101, 5):
        coded = [encode_payload(network.bundle, 0, CodecSetting("jpeg", quality), None, p) for p in pictures]  # type: ignore[arg-type]
        x = np.concatenate([decode_payload(network.bundle, 0, "jpeg", p) for p in coded])
        if (network.final(0, x).argmax(axis=1) == labels).mean() >= least:
            mean = np.mean([message_bytes(p, 1, 0, "jpeg", 0.86) for p in coded])
            return quality, round(float(mean), 1)
    return None, None


def at_cut(
    network: Network, cut: int, bits: int, images: np.ndarray, labels: np.ndarray, clips: list[tuple[Clip, np.ndarray]]
) -> dict[str, Any]:
    """The figures of one cut point. images: activations; clips: with theirs."""
    bundle, setting = network.bundle, CodecSetting("transform", bits)
    threshold = bundle.default_threshold
    whole = network.final(cut, images)
    keys = [encode_payload(bundle, cut, setting, x[None], NO_PICTURE) for x in images]
    coded = network.final(cut, np.concatenate([decode_payload(bundle, cut, "transform", p) for p in keys]))
    rows, same, sure = [], [], []
    for clip, x in clips:
        sent = ~network.answered_on_device(network.inputs(clip.pictures[: len(x)]), cut, threshold)
        if not sent.any():
            continue
        sizes, key, decoded = stream(bundle, cut, setting, x, sent, clip.fps)
        alone = [encode_payload(bundle, cut, setting, y[None], NO_PICTURE) for y in x[sent]]
        baseline = [encode_payload(bundle, cut, BASELINE, y[None], NO_PICTURE) for y in x[sent]]
        uncoded = network.final(cut, x[sent])
        same.append(network.final(cut, decoded).argmax(axis=1) == uncoded.argmax(axis=1))
        sure.append(clear(uncoded, bundle))
        rows.append({
            "clip": clip.name, "frames": len(x), "sent": int(sent.sum()), "key_frames": int(sum(key)),
            "cnn_co_bytes": float(np.mean([message_bytes(p, 1000, cut, "cnn-co", threshold) for p in baseline])),
            "intra_bytes": float(np.mean([message_bytes(p, 1000, cut, "transform", threshold) for p in alone])),
            "inter_bytes": float(np.mean(sizes)),
            "agreement": float(same[-1][sure[-1]].mean()), "agreement_all": float(same[-1].mean()),
        })  # fmt: skip
    means = {name: float(np.mean([r[name] for r in rows])) for name in ("cnn_co_bytes", "intra_bytes", "inter_bytes")}
    right = (whole.argmax(axis=1) == labels).mean(), (coded.argmax(axis=1) == labels).mean()
    row = smallest_row(bundle, cut)
    return {
        "cut": bundle.cut_points[cut].name, "elements": bundle.cut_points[cut].elements, "bits": bits,
        **{name: round(value, 1) for name, value in means.items()},
        "ratio_intra": round(means["intra_bytes"] / means["cnn_co_bytes"], 4),
        "ratio_inter": round(means["inter_bytes"] / means["cnn_co_bytes"], 4),
        "key_bytes_on_images": round(float(np.mean([len(p) for p in keys])), 1),
        "top1_uncoded": round(float(right[0]), 4), "top1_coded": round(float(right[1]), 4),
        "clip_agreement": round(float(np.concatenate(same)[np.concatenate(sure)].mean()), 4),
        "clip_agreement_all": round(float(np.concatenate(same).mean()), 4),
        "smallest_at_equal_accuracy": None if row is None else f"{row.codec}, {row.bytes_mean:.0f} bytes",
        "jpeg_is_smaller": frame_is_smaller(bundle, cut),
        "clips": [{k: round(v, 4) if isinstance(v, float) else v for k, v in r.items()} for r in rows],
    }  # fmt: skip


def draw(bundle: Bundle, path: Path) -> None:
    """Bytes and accuracy of every cut point and setting, from the bundle's tables."""
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    final = bundle.exits[-1].name
    figure, axes = plt.subplots(figsize=(9, 6), layout="constrained")
    colours = plt.get_cmap("viridis")
    for cut in range(1, bundle.last):
        for codec, line in (("transform", "-"), ("cnn-co", ":")):
            rows = [r for r in bundle.payloads if r.cut == cut and r.codec.startswith(codec)]
            rows.sort(key=lambda r: r.bytes_mean)
            axes.plot(
                [r.bytes_mean for r in rows], [100 * r.accuracy[final] for r in rows], line, marker=".",
                color=colours(cut / bundle.last), lw=1, label=bundle.cut_points[cut].name if line == "-" else None,
            )  # fmt: skip
    for codec, marker in (("jpeg", "s"), ("png", "D")):
        rows = [r for r in bundle.payloads if r.cut == 0 and r.codec.startswith(codec)]
        x, y = [r.bytes_mean for r in rows], [100 * r.accuracy[final] for r in rows]
        axes.plot(x, y, marker=marker, color="tab:red", lw=1, label=f"the frame as {codec}")
    axes.set(
        xscale="log", xlabel="bytes of one picture coded alone (mean)", ylabel="top-1 of the final exit, %",
        title=f"{bundle.name}: transform (lines, 2 to 10 bits), cnn-co (dotted, 4 and 8 bits), the frame (red)",
    )  # fmt: skip
    axes.set_ylim(bottom=max(0.0, axes.get_ylim()[1] - 30))
    axes.grid(alpha=0.3)
    axes.legend(fontsize=7, ncol=2)
    save_figure(figure, path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    shared = Path(__file__).resolve().parents[2] / "shared"
    parser.add_argument("--images", type=Path, default=shared / "data" / "tiny-imagenet-200" / "val.parquet")
    parser.add_argument("--clips", type=Path, default=shared / "clips", help="folder of video files")
    parser.add_argument("--bits", type=int, default=6)
    parser.add_argument("--runtime", default="openvino-f32", help="the engine that judges what coding loses")
    parser.add_argument("--plot", type=Path, help="draw rate and accuracy of all cut points and settings here")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    args = parser.parse_args()
    for path in (args.images, args.clips):
        if not path.exists():
            parser.error(f"{path} is not there: give labelled images with --images and a folder of clips with --clips")
    bundle = load_bundle(LITE2_200)
    if args.plot is not None:
        draw(bundle, args.plot)
    network = Network(bundle, open_engine(bundle, args.runtime, threads=os.cpu_count() or 1))
    cut = next(c for c in range(1, bundle.last) if bundle.cut_points[c].shape[1:] == (8, 8))
    dataset = load_dataset([args.images], side=bundle.input.size, classes=bundle.labels)
    pictures = np.stack([crop(p[:, :, ::-1], bundle.input.size) for p in dataset.images.pixels])
    labels, x = dataset.images.labels, network.inputs(pictures)
    clips = read_clips(args.clips, bundle.input.size)
    cuts = []
    few, frames = x[:FEW_IMAGES], [network.inputs(c.pictures[:FEW_FRAMES]) for c in clips]
    for at in range(1, bundle.last):
        few = network.run(at - 1, at, few)
        frames = [network.run(at - 1, at, f) for f in frames]
        cuts.append(at_cut(network, at, args.bits, few, labels[: len(few)], list(zip(clips, frames, strict=True))))
    whole = [network.run(0, cut, network.inputs(c.pictures)) for c in clips]
    found = at_cut(network, cut, args.bits, network.run(0, cut, x), labels, list(zip(clips, whole, strict=True)))
    basis = basis_of(bundle, cut)
    speed = times(basis, args.bits, whole[0][0], whole[0][min(4, len(whole[0]) - 1)])
    saved_ms = (found["cnn_co_bytes"] - found["inter_bytes"]) * 8 / 20e6 * 1000
    quality, size = jpeg(network, pictures[: 3 * FEW_IMAGES], labels[: 3 * FEW_IMAGES], _least(network, x, labels))
    found |= {
        **speed, "bytes_saved_ms_at_20mbps": round(saved_ms, 3), "wide": wide_times(basis, args.bits),
        "entropy": {
            c.name: entropies(basis, args.bits, w, max(1, round(REFERENCE_AGE_S * c.fps)))
            for c, w in zip(clips, whole, strict=True)
        },
        "jpeg_quality_same_accuracy": quality, "jpeg_bytes_same_accuracy": size,
        "entropy_coders": [("ANS", "LZMA")[coder] for coder in entropy.available()],
        "images": len(labels), "bundle": bundle.hash[:12], "cuts": cuts,
    }  # fmt: skip
    if args.json:
        print(json.dumps(found))
    else:
        show(found)


def _least(network: Network, x: np.ndarray, labels: np.ndarray) -> float:
    n = 3 * FEW_IMAGES
    return float((network.final(0, x[:n]).argmax(axis=1) == labels[:n]).mean()) - POINTS_LOST


def show(found: dict[str, Any]) -> None:
    console = Console()
    for name, value in found.items():
        if name not in ("cuts", "clips"):
            console.print(f"{name}: {value}", highlight=False)
    columns = ("cut", "elements", "cnn_co_bytes", "intra_bytes", "inter_bytes", "ratio_intra", "ratio_inter",
               "top1_uncoded", "top1_coded", "clip_agreement", "jpeg_is_smaller")  # fmt: skip
    table = Table(title="at every cut point", title_justify="left")
    for column in columns:
        table.add_column(column, justify="left" if column == "cut" else "right")
    for row in found["cuts"]:
        table.add_row(*(str(row[column]) for column in columns))
    console.print(table)


if __name__ == "__main__":
    main()
