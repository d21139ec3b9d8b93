"""How should the frame itself travel (split 0)? Bytes, time, and whether the label stays, for JPEG, WebP and PNG.

    python benchmarks/frame_payload.py --images val.parquet [--json]

For docs/decisions/0002-frame-payload.md. One engine thread; the picture is the network's input, 128x128.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pyarrow.parquet as pq
from lite2_200 import LITE2_200
from rich.console import Console
from rich.table import Table

from spinn_stream.bundle import load_bundle
from spinn_stream.frame import crop, normalise
from spinn_stream.runtime import open_engine

IMAGES = 2000
BATCH = 50
FULL_CHROMA = [cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444]
CODERS: dict[str, tuple[str, list[int]]] = {
    "png": (".png", []),
    "jpeg 100": (".jpg", [cv2.IMWRITE_JPEG_QUALITY, 100, *FULL_CHROMA]),
    "jpeg 98": (".jpg", [cv2.IMWRITE_JPEG_QUALITY, 98, *FULL_CHROMA]),
    "jpeg 95": (".jpg", [cv2.IMWRITE_JPEG_QUALITY, 95, *FULL_CHROMA]),
    "jpeg 85": (".jpg", [cv2.IMWRITE_JPEG_QUALITY, 85, *FULL_CHROMA]),
    "webp 95": (".webp", [cv2.IMWRITE_WEBP_QUALITY, 95]),
    "webp lossless": (".webp", [cv2.IMWRITE_WEBP_QUALITY, 101]),
}


def median_ms(work: Callable[[Any], Any], items: list[Any]) -> tuple[float, list[Any]]:
    times, results = [], []
    for item in items:
        began = time.perf_counter()
        results.append(work(item))
        times.append((time.perf_counter() - began) * 1000)
    return float(np.median(times)), results


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=Path, required=True, help="parquet with columns image, label")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    args = parser.parse_args()
    cv2.setNumThreads(1)
    bundle = load_bundle(LITE2_200)
    engine = open_engine(bundle)
    table = pq.read_table(args.images)[:IMAGES]
    truth = np.array(table["label"])
    frames = [cv2.imdecode(np.frombuffer(i.as_py(), np.uint8), cv2.IMREAD_COLOR_BGR) for i in table["image"]]
    pictures = [crop(frame, bundle.input.size) for frame in frames]

    def labels(seen: list[Any]) -> np.ndarray:
        found = []
        for i in range(0, len(seen), BATCH):
            x = np.concatenate([normalise(p, bundle.input) for p in seen[i : i + BATCH]])
            found.append(engine.run(0, bundle.last, x)[0].argmax(1))
        return np.concatenate(found)

    uncoded = labels(pictures)
    rows = {"uncoded": {"bytes": pictures[0].nbytes, "encode_ms": 0.0, "decode_ms": 0.0, "agree": 1.0,
                        "top1": float((uncoded == truth).mean())}}  # fmt: skip
    for name, (suffix, options) in CODERS.items():
        encode_ms, payloads = median_ms(
            lambda p, s=suffix, o=options: cv2.imencode(s, cv2.cvtColor(p, cv2.COLOR_RGB2BGR), o)[1].tobytes(), pictures
        )
        decode_ms, seen = median_ms(lambda b: cv2.imdecode(np.frombuffer(b, np.uint8), cv2.IMREAD_COLOR_RGB), payloads)
        found = labels(seen)
        rows[name] = {
            "bytes": round(float(np.mean([len(p) for p in payloads]))),
            "encode_ms": round(encode_ms, 3), "decode_ms": round(decode_ms, 3),
            "agree": float((found == uncoded).mean()), "top1": float((found == truth).mean()),
        }  # fmt: skip
    if args.json:
        commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False)
        about = {
            "command": "python benchmarks/frame_payload.py --images val.parquet --json",
            "images": len(pictures),
            "bundle": bundle.hash[:12],
            "commit": commit.stdout.strip(),
            "machine": f"{platform.machine()}, {platform.system()}, {os.cpu_count()} cores, one used",
        }
        print(json.dumps({**about, "coders": rows}, indent=1))
        return
    shown = Table("coder", "bytes", "encode ms", "decode ms", "label stays", "top-1")
    for name, r in rows.items():
        shown.add_row(name, f"{r['bytes']:.0f}", f"{r['encode_ms']:.2f}", f"{r['decode_ms']:.2f}",
                      f"{100 * r['agree']:.1f} %", f"{100 * r['top1']:.1f} %")  # fmt: skip
    Console().print(shown)


if __name__ == "__main__":
    main()
