"""What does it cost to embed a stream, and does leaving it release everything?

    python benchmarks/embedding.py [--json] [--frames 20000] [--runtime auto]

One process on one core (a server, if there is one, on another), one engine thread, uvloop as in `spinn run`.

    bound_fps        the slowest stage alone: preparing a frame and the whole network with every exit's answer, as the
                     device's thread does it, in a loop without a stream
    stream_fps       frames a second through `spinn_client.Stream`, every frame wanted; in turn with the bound
    ratio            stream_fps over bound_fps, median of the turns
    ratio_cpu        the same of the processor's time a frame, which other processes disturb less
    ratio_of_hops    what an event loop that gives frames to a thread can reach at most: the bound's work in asyncio's
                     `run_in_executor`, each early exit told by `call_soon_threadsafe`, and nothing else; over bound_fps
    loop_lag_p99_ms  how late timers of the program's own event loop are while 30 frames a second go to a server, after
                     `spinn_client.tune_process()`; ..._untuned: without it, with the latest result beyond its deadline
    rss_growth_mb    resident memory from a tenth of the frames to all of them
    close_s          how long leaving the stream takes, from each of the states named
    import_s         `import spinn_client` in a new process, median of 5
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections import deque
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import numpy as np
import uvloop
from lite2_200 import LITE2_200
from pinned import cores
from rich.console import Console
from rich.table import Table

import spinn_client as spinn
from spinn_client.sources.base import pixels_of
from spinn_client.sources.demo import DemoSource
from spinn_stream.bundle import Bundle, load_bundle
from spinn_stream.frame import Pixels, crop, normalise
from spinn_stream.runtime import Answer, Engine, answers, open_engine, stored_profile

SPINN = Path(sys.executable).parent / "spinn"
TURNS, TURN_FRAMES, WARM_UP = 25, 120, 30
FPS, LAG_S, DEADLINE_MS = 30.0, 15.0, 150.0
LAG_STEP_S = 0.002
PATIENCE_MS = 60_000.0


class Pictures:
    """The same pictures again and again, from memory."""

    name, live, fps = "pictures", False, None

    def __init__(self, pictures: list[Pixels], count: int) -> None:
        self._pictures, self._count = pictures, count

    def pictures(self) -> Iterator[spinn.Picture]:
        for n in range(self._count):
            yield spinn.Picture(self._pictures[n % len(self._pictures)])

    def close(self) -> None: ...


class Speed(NamedTuple):
    """Frames a second, and the process's processor time a frame in ms."""

    fps: float
    cpu_ms: float


def one_frame(bundle: Bundle, engine: Engine, picture: Pixels, on_exit: Callable[[Answer], object]) -> None:
    """Prepare a frame and run the whole network with every exit's answer; the early ones are told."""
    x = normalise(crop(picture, bundle.input.size), bundle.input)
    for start, stop in bundle.pieces(0, bundle.last):
        x, output = engine.run(start, stop, x, exit=True)
        reached = bundle.exit_at[stop]
        assert output is not None
        answer = answers(reached.name, output, reached.temperature)[0]
        assert answer.confidence >= 0
        if stop != bundle.last:
            on_exit(answer)


def bound(engine: Engine, pictures: list[Pixels]) -> Speed:
    bundle = load_bundle(LITE2_200)
    began, cpu = time.perf_counter(), time.process_time()
    for n in range(TURN_FRAMES):
        one_frame(bundle, engine, pictures[n % len(pictures)], lambda answer: None)
    return Speed(TURN_FRAMES / (time.perf_counter() - began), (time.process_time() - cpu) * 1000 / TURN_FRAMES)


async def hops(engine: Engine, pictures: list[Pixels]) -> Speed:
    """The bound's work in a thread, one frame after the other, with an event loop that waits for each."""
    bundle, loop, told = load_bundle(LITE2_200), asyncio.get_running_loop(), deque[Answer](maxlen=1)
    with ThreadPoolExecutor(1) as thread:
        began, cpu = time.perf_counter(), time.process_time()
        for n in range(TURN_FRAMES):
            await loop.run_in_executor(
                thread, one_frame, bundle, engine, pictures[n % len(pictures)],
                lambda answer: loop.call_soon_threadsafe(told.append, answer),
            )  # fmt: skip
        return Speed(TURN_FRAMES / (time.perf_counter() - began), (time.process_time() - cpu) * 1000 / TURN_FRAMES)


async def streamed(pictures: list[Pixels], device: spinn.DeviceConfig) -> Speed:
    times: list[tuple[float, float]] = []
    async with spinn.Stream(
        Pictures(pictures, WARM_UP + TURN_FRAMES), deadline_ms=PATIENCE_MS, device=device,
        plan=spinn.FixedPlan("final", "none"), feed=spinn.FeedConfig(unpaced=True),
    ) as stream:  # fmt: skip
        async for _ in stream:
            times.append((time.perf_counter(), time.process_time()))
    (began, cpu), (ended, cpu_then) = times[WARM_UP - 1], times[-1]
    return Speed(TURN_FRAMES / (ended - began), (cpu_then - cpu) * 1000 / TURN_FRAMES)


async def lag(address: str, device: spinn.DeviceConfig, *, tuned: bool) -> dict[str, float]:
    late: list[float] = []
    oldest = 0.0

    async def watch() -> None:
        while True:
            began = time.perf_counter()
            await asyncio.sleep(LAG_STEP_S)
            late.append((time.perf_counter() - began - LAG_STEP_S) * 1000)

    async with spinn.Stream(
        "demo", server=address, deadline_ms=DEADLINE_MS, device=device, plan=spinn.FixedPlan("block7", "none"),
        feed=spinn.FeedConfig(fps=FPS, loop=True, max_frames=int(FPS * (LAG_S + 2))),
    ) as stream:  # fmt: skip
        if tuned:
            spinn.tune_process()
        await asyncio.sleep(2)
        watching = asyncio.create_task(watch())
        async for result in stream:
            oldest = max(oldest, result.age_ms)
        watching.cancel()
    return {"p99_ms": round(float(np.percentile(late, 99)), 2), "oldest_ms": round(oldest, 1)}


def rss_mb() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


async def growth(pictures: list[Pixels], device: spinn.DeviceConfig, frames: int) -> float:
    before, count = 0.0, 0
    async with spinn.Stream(
        Pictures(pictures, frames), deadline_ms=PATIENCE_MS, device=device, plan=spinn.FixedPlan("final", "0.0"),
        feed=spinn.FeedConfig(unpaced=True),
    ) as stream:  # fmt: skip
        async for _ in stream:
            count += 1
            if count == frames // 10:
                before = rss_mb()
    return rss_mb() - before


# leaving, from every state


@contextlib.contextmanager
def camera(pictures: int) -> Iterator[str]:
    """An HTTP camera that gives this number of pictures on each connection, and then nothing, without an end."""
    import cv2

    listening = socket.create_server(("127.0.0.1", 0))
    jpeg = cv2.imencode(".jpg", np.full((240, 320, 3), 90, np.uint8))[1].tobytes()
    part = b"--x\r\nContent-Type: image/jpeg\r\nContent-Length: %d\r\n\r\n%s\r\n" % (len(jpeg), jpeg)

    def serve(connection: socket.socket) -> None:
        with contextlib.suppress(OSError):
            connection.recv(4096)
            connection.sendall(b"HTTP/1.0 200 OK\r\nContent-Type: multipart/x-mixed-replace; boundary=x\r\n\r\n")
            for _ in range(pictures):
                connection.sendall(part)
                time.sleep(0.03)
            time.sleep(60)

    def accept() -> None:
        with contextlib.suppress(OSError):
            while True:
                threading.Thread(target=serve, args=(listening.accept()[0],), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{listening.getsockname()[1]}/camera.mjpg"
    finally:
        listening.close()


@contextlib.contextmanager
def swallowing() -> Iterator[str]:
    """An address whose queue of connections is full: packets to it are dropped without a word."""
    with contextlib.ExitStack() as stack:
        full = stack.enter_context(socket.socket())
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        for _ in range(8):
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                waiting.connect(full.getsockname())
        yield f"ws://127.0.0.1:{full.getsockname()[1]}"


async def leave(stream: spinn.Stream, when: Callable[[spinn.Stream], Awaitable[None]]) -> float:
    await stream.open()
    await when(stream)
    began = time.perf_counter()
    await stream.close()
    return time.perf_counter() - began


async def leave_while_opening(stream: spinn.Stream, after_s: float) -> float:
    opening = asyncio.create_task(stream.open())
    await asyncio.wait([opening], timeout=after_s)
    if opening.done():
        raise SystemExit("it was open already; nothing was measured")
    began = time.perf_counter()
    opening.cancel()
    await asyncio.wait([opening])
    return time.perf_counter() - began


async def after(seconds: float, stream: spinn.Stream) -> None:
    await asyncio.sleep(seconds)


async def closings(address: str, server: subprocess.Popen[str], device: spinn.DeviceConfig) -> dict[str, float]:
    found: dict[str, float] = {}
    fixed = spinn.FixedPlan("block7", "none")

    def one(source: object = "demo", **options: Any) -> spinn.Stream:
        options = {"device": device, "server": address, "plan": fixed, **options}
        return spinn.Stream(source, **options)  # type: ignore[arg-type]

    with tempfile.TemporaryDirectory() as empty:  # nothing was ever measured
        kept = os.environ.get("XDG_CACHE_HOME")
        os.environ["XDG_CACHE_HOME"] = empty
        found["opening"] = await leave_while_opening(one(device=spinn.DeviceConfig(bundle=LITE2_200)), 1.0)
        os.environ.pop("XDG_CACHE_HOME") if kept is None else os.environ.update(XDG_CACHE_HOME=kept)
    with camera(0) as hanging:
        found["source hangs"] = await leave_while_opening(one(hanging), 1.0)
    with swallowing() as nowhere:
        found["connecting"] = await leave_while_opening(one(server=nowhere), 1.0)
    found["running"] = await leave(one(), lambda s: after(1.0, s))
    with camera(60) as stalling:
        found["source stalled"] = await leave(one(stalling), lambda s: after(4.0, s))

    async def ask(stream: spinn.Stream) -> None:
        asking.append(asyncio.create_task(stream.ask(np.zeros((240, 320, 3), np.uint8))))
        await asyncio.sleep(0.05)

    asking: list[asyncio.Task[spinn.Result]] = []
    slow = spinn.DeviceConfig(bundle=LITE2_200, runtime=device.runtime, threads=1, slowdown=300)
    found["inside ask"] = await leave(one(spinn.Pushed(), device=slow, deadline_ms=PATIENCE_MS), ask)
    await asyncio.gather(*asking, return_exceptions=True)
    found["a callback blocks for 1 s"] = await leave(
        one(on_result=lambda result: time.sleep(1.0)), lambda s: after(0.3, s)
    )

    async def silence(stream: spinn.Stream) -> None:
        await asyncio.sleep(0.5)
        server.send_signal(signal.SIGSTOP)
        await asyncio.sleep(1.0)

    found["server silent"] = await leave(one(), silence)
    server.send_signal(signal.SIGCONT)
    return {state: round(seconds, 3) for state, seconds in found.items()}


def import_s() -> float:
    script = "import time; t = time.perf_counter(); import spinn_client; print(time.perf_counter() - t)"
    runs = [
        subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True) for _ in range(5)
    ]
    return median(float(run.stdout) for run in runs)


@contextlib.contextmanager
def serving(core: int, runtime: str) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    command = [
        "taskset",
        "-c",
        str(core),
        str(SPINN),
        "serve",
        "--bundle",
        str(LITE2_200),
        "--port",
        "0",
        "--runtime",
        runtime,
    ]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    try:
        assert process.stdout is not None
        yield process.stdout.readline().split()[1], process
    finally:
        process.kill()
        process.wait()


def measure(frames: int, runtime: str) -> dict[str, Any]:
    own, other = cores()
    os.sched_setaffinity(0, {own})
    bundle = load_bundle(LITE2_200)
    engine = open_engine(bundle, runtime, threads=1)
    stored_profile(bundle, engine, threads=1)
    device = spinn.DeviceConfig(bundle=LITE2_200, runtime=engine.name, threads=1)
    pictures = list(pixels_of(DemoSource()))[::20]

    async def served(address: str, server: subprocess.Popen[str]) -> dict[str, Any]:
        untuned = await lag(address, device, tuned=False)
        tuned = await lag(address, device, tuned=True)
        return {"untuned": untuned, "tuned": tuned, "close_s": await closings(address, server, device)}

    with serving(other, engine.name) as running:
        found = uvloop.run(served(*running))
    bounds, streams, bare = [], [], []
    for _ in range(TURNS):
        bounds.append(bound(engine, pictures))
        bare.append(uvloop.run(hops(engine, pictures)))
        streams.append(uvloop.run(streamed(pictures, device)))
    return {
        "engine": engine.name,
        "bound_fps": round(median(b.fps for b in bounds), 1),
        "stream_fps": round(median(s.fps for s in streams), 1),
        "ratio": round(median(s.fps / b.fps for s, b in zip(streams, bounds, strict=True)), 4),
        "ratio_cpu": round(median(b.cpu_ms / s.cpu_ms for s, b in zip(streams, bounds, strict=True)), 4),
        "ratio_of_hops": round(median(h.fps / b.fps for h, b in zip(bare, bounds, strict=True)), 4),
        "load_average": round(os.getloadavg()[0], 1),
        "loop_lag_p99_ms": found["tuned"]["p99_ms"],
        "loop_lag_p99_ms_untuned": found["untuned"]["p99_ms"],
        "oldest_result_ms": found["tuned"]["oldest_ms"],
        "oldest_result_ms_untuned": found["untuned"]["oldest_ms"],
        "deadline_ms": DEADLINE_MS,
        "rss_growth_mb": round(uvloop.run(growth(pictures, device, frames)), 2),
        "frames": frames,
        "close_s": found["close_s"],
        "import_s": round(import_s(), 3),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--frames", type=int, default=20_000, help="of the run that memory is watched in")
    parser.add_argument("--runtime", default="auto")
    args = parser.parse_args()
    measured = measure(args.frames, args.runtime)
    if args.json:
        print(json.dumps(measured))
        return
    table = Table("what", "figure")
    for name, value in measured.items():
        table.add_row(name, str(value))
    Console().print(table)


if __name__ == "__main__":
    main()
