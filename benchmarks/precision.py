"""Do the engines agree? Every engine's logits on labelled images, against float32.

    python benchmarks/precision.py --data val.parquet [--json] [--torch-images 200]

The final exit of `lite2-200`, batches of 50, all cores. The reference is ONNX Runtime in float32; torch is
compared with it on the first images. Agreement is the share of images with the same top-1, among all, and among those
whose two best classes are 0.1 or more apart in (calibrated) probability.
"""

from __future__ import annotations

import argparse
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
from lite2_200 import LITE2_200
from rich.console import Console
from rich.table import Table

from spinn_stream.bundle import Bundle, load_bundle
from spinn_stream.runtime.engines.registry import installed, open_one
from spinn_stream.runtime.exits import probabilities
from spinn_stream.train.data.datasets import load_dataset
from spinn_stream.train.pack.calibration import collect_logits

REFERENCE = "onnxruntime"
MARGIN = 0.1


def compare(bundle: Bundle, name: str, logits: np.ndarray, reference: np.ndarray, labels: np.ndarray) -> dict[str, Any]:
    """Final exit's logits of one engine, (N, classes), against the reference's."""
    p = np.sort(probabilities(reference, bundle.exits[-1].temperature), axis=1)
    clear = p[:, -1] - p[:, -2] >= MARGIN
    same = logits.argmax(axis=1) == reference.argmax(axis=1)
    lost = (reference.argmax(axis=1) == labels).mean() - (logits.argmax(axis=1) == labels).mean()
    return {
        "engine": name,
        "images": len(labels),
        "largest_logit_difference": round(float(np.abs(logits - reference).max()), 6),
        "agreement_clear": round(float(same[clear].mean()), 5),
        "clear_images": int(clear.sum()),
        "agreement_all": round(float(same.mean()), 5),
        "accuracy": round(float((logits.argmax(axis=1) == labels).mean()), 4),
        "accuracy_points_lost": round(100 * float(lost), 3),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, nargs="+", required=True, help="labelled parquet files or folders")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--torch-images", type=int, default=200, help="images for torch, which is slow")
    args = parser.parse_args()
    bundle = load_bundle(LITE2_200)
    images = load_dataset(args.data, side=bundle.input.size).images
    threads = os.cpu_count() or 1
    rows: list[dict[str, Any]] = []
    reference: np.ndarray | None = None
    for name in sorted(installed(), key=lambda n: n != REFERENCE):
        count = args.torch_images if name == "torch" else len(images)
        engine = open_one(bundle, name, threads=threads)
        logits = collect_logits(bundle, engine, images.pixels[:count])[-1]
        reference = logits if reference is None else reference
        label = f"{name} ({engine.precision})" if name == "openvino" else name  # type: ignore[attr-defined]
        rows.append(compare(bundle, label, logits, reference[:count], images.labels[:count]))
    if args.json:
        print(json.dumps({"bundle": bundle.hash[:12], "reference": REFERENCE, "engines": rows}))
        return
    table = Table("", *(r["engine"] for r in rows), title=f"{bundle.name}: against {REFERENCE}")
    for key in rows[0]:
        if key != "engine":
            table.add_row(key, *(str(r[key]) for r in rows))
    Console().print(table)


if __name__ == "__main__":
    main()
