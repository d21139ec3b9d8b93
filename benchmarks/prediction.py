"""How close are the scheduler's predictions to reality?

    python benchmarks/prediction.py [--json] [--seconds 6] [--data val.parquet] [--figure latency|throughput]

Real processes, pinned: a client (core 0) with a fixed plan, the shaper and a server (core 1), at five bandwidths and
two speeds of the device. Every half second the client predicts its plan's figures from its present belief about link
and loads. Their means are compared with the age of the answers at 30 frames a second (the median, or the mean if an
exit may answer, since there are two kinds of answers then), and with the answers a second if frames are taken as fast
as the slowest stage allows.

Without labelled images, the frames are the demo's: crops of three photographs that are unlike the bundle's tables.
Their order is random, so that every stretch has frames of all three, and no scene has to be foreseen.

With labelled images, accuracy is compared, too: the share of the answered images that the whole network gets right,
less the predicted drop, against the share of right answers. One answer counts for each image, over all bandwidths. The
drop is the scheduler's, with tables of the very images that were answered (made in a minute or two, before anything
else runs). So the figure judges how it combines the losses of thresholds and codecs. Its drop by the bundle's own
tables, of other images, is given, too.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import uvloop
from lite2_200 import LITE2_200
from pinned import change, cores, finals, role, serve, shaper, wait_for_results
from rich.console import Console
from rich.table import Table
from same_images import SameImages, predicted_drop, same_images

from spinn_client import DeviceConfig, FeedConfig, Stream, tune_process
from spinn_client.sinks.jsonl import ResultLog
from spinn_client.sources.base import pixels_of
from spinn_client.sources.demo import DemoSource
from spinn_client.steering.guide import Asked
from spinn_stream.bundle import Bundle, load_bundle
from spinn_stream.frame import crop
from spinn_stream.plan import Policy, parse_sla
from spinn_stream.plan.policy.baselines import Mask
from spinn_stream.plan.predict.plan_table import PlanTable
from spinn_traces.replay.run.material import Material, prepare

MBPS = (0.5, 1.5, 4.0, 10.0, 30.0)
SLOWDOWNS = (1.0, 8.0)
PLANS = ("final", "final@0.7", "input jpeg:85", "block7 transform:6", "block11@0.76 transform:6")
"""Plans: split, threshold and codec setting. The first one is the whole network."""

IMAGES = 4000
RTT_MS = 20.0
FPS, DEADLINE_MS = 30.0, 10_000.0
SETTLE_S = 3.0
LEARN_S = 8.0
"""More before the first bandwidth: a client learns its own times in its first frames, and sets up its tables anew."""
EVERY_S = 0.5


def parts(text: str) -> tuple[str, str, str]:
    """Split, threshold and codec setting of a plan; empty: none."""
    where, _, codec = text.partition(" ")
    split, _, threshold = where.partition("@")
    return split, threshold, codec


def only(text: str) -> Policy:
    """A policy that knows one plan."""
    split, threshold, codec = parts(text)

    def plans(bundle: Bundle, table: PlanTable) -> Mask:
        settings = [str(setting) for setting in table.settings]
        fits = [t == float(threshold) if threshold else t is None or not bundle.needed(t) for t in table.thresholds]
        right = [codec == (settings[k] if k >= 0 else "") for k in table.setting]
        return np.asarray((table.split == bundle.split_index(split)) & right & np.array(fits)[table.threshold])

    return Policy(text, "One plan.", plans, lambda sla, deadline_ms: sla)


async def drive(address: str, results: Path, slowdown: float, text: str, source: str, *, unpaced: bool) -> None:
    stream = Stream(
        source, server=address, deadline_ms=DEADLINE_MS, plan=Asked(only(text), parse_sla("minimize latency_ms")),
        feed=FeedConfig(unpaced=True, loop=True) if unpaced else FeedConfig(fps=FPS, loop=True),
        device=DeviceConfig(bundle=LITE2_200, slowdown=slowdown), sinks=[ResultLog(results)],
    )  # fmt: skip

    async def predicted() -> None:
        while True:
            await asyncio.sleep(EVERY_S)
            figures = stream.forecast()
            if figures is not None:
                print(json.dumps({"at_s": time.monotonic(), **figures.as_json()}), flush=True)

    async with stream:
        tune_process()
        telling = asyncio.create_task(predicted())
        await asyncio.to_thread(os.read, 0, 1)
        telling.cancel()


def play(seconds: float, data: str | None, figure: str | None) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    client_core, server_core = cores()
    rows: list[dict[str, Any]] = []
    accuracies: list[dict[str, Any]] = []
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        if data is None:
            shuffled_demo(load_bundle(LITE2_200), folder / "demo")
        material = prepare(
            data or str(folder / "demo"), load_bundle(LITE2_200), folder / "images", count=IMAGES, seed=0
        )
        same = None if material.truth is None else measured(load_bundle(LITE2_200), material)
        server = stack.enter_context(role(__file__, "server", server_core))
        assert server.stdout is not None
        address = server.stdout.readline().strip().removeprefix("ws://")
        first = {"up_mbps": MBPS[-1], "down_mbps": 50.0, "rtt_ms": RTT_MS}
        listening, control = stack.enter_context(shaper(address, server_core, first))
        for slowdown in SLOWDOWNS:
            for text in PLANS:
                right: dict[int, bool] = {}
                drops: list[float] = []
                for unpaced in {"throughput": [True], "latency": [False]}.get(figure or "", [True, False]):
                    results = folder / f"{slowdown}{text}{unpaced}.jsonl"
                    arguments = ["--address", f"ws://{listening}", "--results", str(results), "--plan", text,
                                 "--source", material.source,
                                 "--device-slowdown", str(slowdown), *(["--unpaced"] if unpaced else [])]  # fmt: skip
                    with role(__file__, "client", client_core, *arguments) as client:
                        wait_for_results(results, client)
                        time.sleep(LEARN_S)
                        phases = []
                        alone = text.startswith("final")
                        for mbps in MBPS[-1:] if alone else MBPS:
                            at = change(control, {"up_mbps": mbps})
                            length = seconds * (len(MBPS) if alone and unpaced else 1)
                            time.sleep(SETTLE_S + length)
                            phases.append((mbps, at + SETTLE_S, at + SETTLE_S + length))
                        said, _ = client.communicate("\n", timeout=60)
                    found = [json.loads(line) for line in said.splitlines() if line.startswith("{")]
                    answered = finals(results)
                    rows += compare(slowdown, text, unpaced, phases, found, answered)
                    drops += [p["accuracy_drop"] for p in found]
                    right = marks(answered, material) | right
                if same is not None:
                    accuracies.append(compare_accuracy(slowdown, text, same, right, drops))
    return rows, accuracies


def shuffled_demo(bundle: Bundle, folder: Path) -> None:
    """The demo's frames as the network sees them, in a random order."""
    folder.mkdir()
    frames = [crop(frame, bundle.input.size) for frame in pixels_of(DemoSource())]
    for place, n in enumerate(np.random.default_rng(0).permutation(len(frames))):
        cv2.imwrite(str(folder / f"{place:05}.png"), cv2.cvtColor(frames[n], cv2.COLOR_RGB2BGR))


def measured(bundle: Bundle, material: Material) -> SameImages:
    """The answers of `PLANS` for these images."""
    coded = [(bundle.split_index(split), codec) for split, _, codec in map(parts, PLANS) if codec]
    return same_images(bundle, material, coded)


def marks(answered: list[dict[str, Any]], material: Material) -> dict[int, bool]:
    """Whether the first answer to each image was right."""
    found: dict[int, bool] = {}
    if material.truth is not None:
        for line in answered:
            image = line["frame"] % len(material.truth)
            found.setdefault(image, line["label"] == material.truth[image])
    return found


def compare_accuracy(
    slowdown: float, text: str, same: SameImages, right: dict[int, bool], drops: list[float]
) -> dict[str, Any]:
    """Args: right: of each image that was answered. drops: what the client said, by the bundle's own tables."""
    images = sorted(right)
    reference, seen = same.whole(images).astype(float), np.array([right[image] for image in images], float)
    drop, told = predicted_drop(same.bundle_of(images), only(text)), float(np.mean(drops))
    predicted, found = float(reference.mean()) - drop, float(seen.mean())
    return {
        "device_slowdown": slowdown, "plan": text, "images": len(images),
        "whole_network": round(float(reference.mean()), 4),
        "predicted": round(predicted, 4), "measured": round(found, 4),
        "off_points": round(100 * (predicted - found), 2),
        "standard_error_points": round(100 * standard_error(seen - reference), 2),
        "drop_points": round(100 * drop, 2), "drop_points_by_bundle": round(100 * told, 2),
    }  # fmt: skip


def standard_error(x: npt.NDArray[np.float64]) -> float:
    return float(x.std() / np.sqrt(len(x)))


def compare(
    slowdown: float, text: str, unpaced: bool, phases: list[tuple[float, float, float]],
    predicted: list[dict[str, Any]], answered: list[dict[str, Any]],
) -> list[dict[str, Any]]:  # fmt: skip
    rows = []
    for mbps, begin, end in phases:
        within = [line for line in answered if begin <= line["at_s"] < end]
        figure = "throughput_fps" if unpaced else "latency_ms"
        said = float(np.mean([p[figure] for p in predicted if begin <= p["at_s"] < end]))
        ages = [line["age_ms"] for line in within]
        statistic = np.mean if "@" in text else np.median
        seen = len(within) / (end - begin) if unpaced else float(statistic(ages))
        rows.append({
            "figure": figure, "device_slowdown": slowdown, "plan": text, "up_mbps": mbps, "predicted": round(said, 2),
            "measured": round(seen, 2), "off": round(said / seen - 1, 3), "answers": len(within),
            "on_device_percent": round(100 * sum(line["where"] == "device" for line in within) / len(within), 1),
        })  # fmt: skip
    return rows


def show(rows: list[dict[str, Any]], accuracies: list[dict[str, Any]]) -> None:
    table = Table(title="predicted and measured", box=None)
    for name in ("device", "plan", "Mb/s", "figure", "predicted", "measured", "off"):
        table.add_column(name, justify="left" if name in ("plan", "figure") else "right")
    for row in rows:
        table.add_row(
            f"/ {row['device_slowdown']:g}", row["plan"], f"{row['up_mbps']:g}", row["figure"],
            f"{row['predicted']:.1f}", f"{row['measured']:.1f}", f"{100 * row['off']:+.1f} %",
        )  # fmt: skip
    Console().print(table)
    for row in accuracies:
        print(
            f"device / {row['device_slowdown']:g}, {row['plan']}: {100 * row['predicted']:.1f} % predicted on "
            f"{row['images']} images, {100 * row['measured']:.1f} % right, off by {row['off_points']:+.2f} points "
            f"(standard error {row['standard_error_points']:.2f}); predicted to lose {row['drop_points']:.2f} points, "
            f"{row['drop_points_by_bundle']:.2f} by the bundle's own tables"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--json", action="store_true", help="one object, for scripts")
    parser.add_argument("--seconds", type=float, default=6.0, help="measured at each bandwidth")
    parser.add_argument("--figure", choices=("latency", "throughput"), help="this one alone; both where not given")
    parser.add_argument("--data", help="labelled images, as for `spinn replay --source`")
    parser.add_argument("--source", help=argparse.SUPPRESS)
    parser.add_argument("--role", choices=("server", "client"), help=argparse.SUPPRESS)
    parser.add_argument("--address", help=argparse.SUPPRESS)
    parser.add_argument("--results", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--plan", help=argparse.SUPPRESS)
    parser.add_argument("--device-slowdown", type=float, default=1.0, help=argparse.SUPPRESS)
    parser.add_argument("--unpaced", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.role == "server":
        uvloop.run(serve())
    elif options.role == "client":
        uvloop.run(
            drive(
                options.address,
                options.results,
                options.device_slowdown,
                options.plan,
                options.source,
                unpaced=options.unpaced,
            )
        )
    else:
        rows, accuracies = play(options.seconds, options.data, options.figure)
        off: dict[str, list[float]] = {"latency_ms": [], "throughput_fps": []}
        for row in rows:
            off[row["figure"]].append(abs(row["off"]))
        found = {
            "rows": rows,
            "accuracy": accuracies,
            "worst_latency_off": max(off["latency_ms"], default=None),
            "worst_throughput_off": max(off["throughput_fps"], default=None),
            "worst_accuracy_off_points": max((abs(row["off_points"]) for row in accuracies), default=None),
        }
        if options.json:
            print(json.dumps(found))
        else:
            show(rows, accuracies)


if __name__ == "__main__":
    main()
