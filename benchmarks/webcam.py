"""What the webcam page costs and shows: python benchmarks/webcam.py [--bundle DIR] [--json]

A clip of 640x360 at 30 frames a second is played to the page of `spinn webcam` in headless Chromium, all on this
machine. It prints the shown frames a second, alone and with the comparison; the time from capture to the label on the
screen, measured in the page by the program's clock; and Python's own work for the page, as a share of a core: the main
thread, which has only the web server, and the JPEG of each picture, which is made in the camera's thread. The streams
have a thread of their own.

    python benchmarks/webcam.py --soak [--minutes 10]

Two viewers, one of them in the background for a tenth of the time. It prints the memory of the processes, and the heaps
of both pages after a collection: the least of three looks, since pictures come and go. A line is fitted to the second
half of each. In the first half the charts and the browser's own lists fill, scripts are compiled, and the parts of the
network that new plans use are loaded.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from spinn_client import Picture, open_source
from spinn_client.apps.webcam.camera import Shot
from spinn_client.apps.webcam.video import encode
from spinn_client.sources.demo import DemoSource

WARM_S, MEASURED_S = 15.0, 15.0
FPS = 30.0
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--no-first-run"]
HIDE = """(hidden) => {
  Object.defineProperty(document, "hidden", { value: hidden, configurable: true });
  document.dispatchEvent(new Event("visibilitychange"));
}"""

SOAK_STEPS = 40
FLAT = 0.05
"""Growth over the second half of the soak that still counts as flat: allocators keep what they had."""


def make_clip(folder: Path) -> Path:
    path = folder / "clip.avi"
    clip = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), FPS, (640, 360))
    for picture in DemoSource().pictures():
        assert isinstance(picture, Picture)
        clip.write(np.ascontiguousarray(picture.pixels[60:420]))
    clip.release()
    return path


@contextlib.contextmanager
def demo(*options: str) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-m", "spinn_stream", "webcam", *options]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    try:
        yield process
        process.send_signal(signal.SIGINT)
        process.wait(20)
    finally:
        process.kill()
        process.wait()


def cpu_s(stat: Path) -> float:
    """Processor time that a process, or a thread, has taken."""
    fields = stat.read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def shares_of_a_core(pid: int) -> tuple[float, float]:
    """Of the whole process, and of its main thread."""
    stats = Path(f"/proc/{pid}/stat"), Path(f"/proc/{pid}/task/{pid}/stat")
    before, began = [cpu_s(stat) for stat in stats], time.monotonic()
    time.sleep(MEASURED_S)
    took = time.monotonic() - began
    whole, main = [(cpu_s(stat) - then) / took for stat, then in zip(stats, before, strict=True)]
    return whole, main


def encoding_s(clip: Path) -> float:
    """Processor time of making one JPEG for the pages."""
    shots = [Shot(picture.pixels, 0.0) for picture in open_source(str(clip)).pictures() if isinstance(picture, Picture)]
    began = time.thread_time()
    for number, shot in enumerate(shots):
        encode(number, shot)
    return (time.thread_time() - began) / len(shots)


@contextlib.contextmanager
def browser() -> Iterator[Any]:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as driver:
        found = driver.chromium.launch(executable_path=shutil.which("chromium"), headless=True, args=FLAGS)
        try:
            yield found
        finally:
            found.close()


def open_page(chromium: Any, address: str) -> Any:
    page = chromium.new_page(viewport={"width": 1280, "height": 900})
    page.set_default_timeout(120_000)
    page.goto(address)
    page.wait_for_selector(".chip.good >> text=server: connected")
    page.wait_for_selector(".answer[data-kind]")
    return page


def address_of(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().split()[1]


def measure(clip: Path, *given: str) -> dict[str, Any]:
    given = ("--source", str(clip), "--runtime", "onnxruntime", *given)
    with demo("--port", "0", *given) as process, browser() as chromium:
        page = open_page(chromium, address_of(process))
        time.sleep(WARM_S)
        whole, web = shares_of_a_core(process.pid)
        figures = page.evaluate("(s) => spinnWebcam.figures(s)", MEASURED_S)
        page.get_by_role("switch", name="compare with either alone").click()
        page.wait_for_selector("[data-lane=server][data-kind]")
        time.sleep(5)
        time.sleep(MEASURED_S)
        compared = page.evaluate("(s) => spinnWebcam.figures(s)", MEASURED_S)
    jpeg_s = encoding_s(clip)
    return {
        "load_average": round(os.getloadavg()[0], 1), "cores": os.cpu_count(),
        "fps": round(figures["fps"], 1), "fps_compared": round(compared["fps"], 1),
        "label_ms_p50": round(figures["label_ms"]["p50"], 1), "label_ms_p95": round(figures["label_ms"]["p95"], 1),
        "process_cores": round(whole, 3), "web_cores": round(web, 3), "jpeg_ms": round(1000 * jpeg_s, 2),
        "page_cores": round(web + figures["fps"] * jpeg_s, 3),
    }  # fmt: skip


def memory(pid: int) -> dict[str, float]:
    """Resident MB of the process and of those that it started."""
    found = {"webcam": _resident(pid)}
    for task in Path(f"/proc/{pid}/task").iterdir():
        with contextlib.suppress(FileNotFoundError):  # a thread that has just ended
            for child in (task / "children").read_text().split():
                words = Path(f"/proc/{child}/cmdline").read_text().split("\0")
                name = next((word for word in words if word in ("serve", "shape")), None)
                if name is not None:
                    found[name] = _resident(int(child))
    return found


def _resident(pid: int) -> float:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS")) / 1000


def heap(page: Any) -> float:
    """MB of the page's JavaScript that are in use after a collection: the least of three, half a second apart."""
    session = page.context.new_cdp_session(page)
    found = []
    for _ in range(3):
        time.sleep(0.5)
        session.send("HeapProfiler.collectGarbage")
        found.append(session.send("Runtime.getHeapUsage")["usedSize"] / 1e6)
    session.detach()
    return float(min(found))


def soak(clip: Path, minutes: float, *given: str) -> dict[str, Any]:
    step_s = 60 * minutes / SOAK_STEPS
    with (
        demo("--port", "0", "--source", str(clip), "--runtime", "onnxruntime", *given) as process,
        browser() as started,
    ):
        address = address_of(process)
        seen, other = open_page(started, address), open_page(started, address)
        times, samples = [], []
        began = time.monotonic()
        for step in range(SOAK_STEPS):
            time.sleep(max(0.0, began + (step + 1) * step_s - time.monotonic()))
            if step in (SOAK_STEPS // 2, SOAK_STEPS * 3 // 5):
                other.evaluate(HIDE, step == SOAK_STEPS // 2)
            samples.append({**memory(process.pid), "heap": heap(seen), "heap of the hidden one": heap(other)})
            times.append((time.monotonic() - began) / 60)
            fps = seen.evaluate("(s) => spinnWebcam.figures(s)", step_s)["fps"]
            print(
                f"{step + 1:3d}/{SOAK_STEPS}  {fps:.1f} frames/s  {_rounded(samples[-1])}", file=sys.stderr, flush=True
            )
    return {"minutes": minutes, **fitted(times, samples)}


def fitted(minutes: list[float], samples: list[dict[str, float]]) -> dict[str, Any]:
    """What a line through the looks of the second half says of each memory."""
    half = len(samples) // 2
    lines = {name: np.polyfit(minutes[half:], [s[name] for s in samples[half:]], 1) for name in samples[-1]}
    ends = {name: np.polyval(line, [minutes[half], minutes[-1]]) for name, line in lines.items()}
    growth = {name: float(end / start - 1) for name, (start, end) in ends.items()}
    return {
        "mb": [{"minute": round(at, 2), **_rounded(sample)} for at, sample in zip(minutes, samples, strict=True)],
        "mb_a_minute": {name: round(float(line[0]), 3) for name, line in lines.items()},
        "growth": {name: round(value, 3) for name, value in growth.items()},
        "flat": max(growth.values()) <= FLAT,
    }  # fmt: skip


def _rounded(values: dict[str, float]) -> dict[str, float]:
    return {name: round(value, 1) for name, value in values.items()}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="one object on stdout")
    parser.add_argument("--soak", action="store_true")
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--bundle", help="folder of the bundle")
    args = parser.parse_args()
    if shutil.which("chromium") is None:
        print("webcam: needs chromium on the PATH", file=sys.stderr)
        return 1
    with tempfile.TemporaryDirectory() as folder:
        clip = make_clip(Path(folder))
        given = [] if args.bundle is None else ["--bundle", args.bundle]
        found = soak(clip, args.minutes, *given) if args.soak else measure(clip, *given)
    if args.json:
        print(json.dumps(found))
    else:
        for name, value in found.items():
            print(f"{name:20s} {value}")
    return int(found.get("flat") is False)


if __name__ == "__main__":
    sys.exit(main())
