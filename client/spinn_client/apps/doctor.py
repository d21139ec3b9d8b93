"""The checks of `spinn doctor` on this device. Each says what it found and what to do about it."""

from __future__ import annotations

import asyncio
import importlib.metadata
import platform
import sys
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import cv2
import uvloop

from spinn_client.frames.flight import SPARE_MS
from spinn_client.sources.base import Picture
from spinn_client.sources.names import shown
from spinn_client.sources.registry import open_source
from spinn_stream.bundle import Bundle, load_bundle
from spinn_stream.errors import SourceError
from spinn_stream.frame import Pixels
from spinn_stream.profile import Profile
from spinn_stream.runtime import Choice, Engine, choose_engine, open_engine, stored_profile
from spinn_stream.runtime.measure import store

from .doctor_server import RoundTrip
from .findings import Finding, Findings, State, within

SOURCE_LIMIT_S = 15.0
"""Time-out for opening a source and reading from it."""

PLAYED_S = 2.0
PLAYED_FRAMES = 60

TIMER_S = 0.005
TIMER_RUNS = 50

CPU_FLAGS = {"avx512_bf16", "amx_bf16", "bf16"}
"""Names of the processor feature for bfloat16, on x86 and ARM."""


@dataclass(frozen=True)
class Measured:
    """An engine that works, and its times here."""

    engine: Engine
    profile: Profile


def check_packages() -> tuple[Findings, None]:
    """Versions of the installed packages, and which others would help."""
    found = [Finding("python", "ok", f"{platform.python_version()} on {store.processor()}")]
    names = [name for name in ("spinn-stream", "spinn-client", "numpy", "onnxruntime") if _version(name)]
    texts = [f"{name} {_version(name)}" for name in names]
    found.append(Finding("packages", "ok", ", ".join([*texts, f"opencv {cv2.__version__}"])))
    if _version("onnxruntime") is None:
        found.append(Finding("onnxruntime", "failed", "not installed", "pip install onnxruntime"))
    if _version("openvino"):
        found.append(Finding("openvino", "ok", str(_version("openvino"))))
    elif _has_bfloat16():
        text = "not installed; this processor computes in bfloat16, where openvino takes half as long"
        found.append(Finding("openvino", "warning", text, "pip install 'spinn-stream[openvino]' (180 MB)"))
    else:
        text = "not installed; on a processor without bfloat16, as this one, it brings little"
        found.append(Finding("openvino", "skipped", text, "pip install 'spinn-stream[openvino]' to try (180 MB)"))
    torch = _version("torch")
    if torch:
        found.append(Finding("torch", "ok", f"{torch}; needed by `spinn train` alone"))
    else:
        found.append(Finding("torch", "skipped", "not installed; needed by `spinn train` alone"))
    return found, None


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _has_bfloat16() -> bool:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return False
    return any(CPU_FLAGS & set(line.split()) for line in lines if line.lower().startswith(("flags", "features")))


def check_bundle(path: Path) -> tuple[Findings, Bundle]:
    bundle = load_bundle(path)
    text = (
        f"{bundle.name} {bundle.hash[:12]}: {len(bundle.exits)} exits, {len(bundle.labels)} classes, "
        f"{bundle.input.size} px"
    )
    return [Finding("bundle", "ok", text)], bundle


def check_engines(bundle: Bundle, threads: int, say: Callable[[str], object]) -> tuple[Findings, Choice]:
    """Every engine's speed, measured once for each machine."""
    choice = choose_engine(bundle, threads=threads, say=say)
    found = [
        Finding(f"engine {name}", "ok", f"{choice.median_ms[name]:.2f} ms for the network in two halves, batch of 1")
        for name in choice.order
    ]
    again = "it is not needed while another one works; its package may be damaged, or not be for this processor"
    found += [Finding(f"engine {name}", "warning", reason, again) for name, reason in choice.refused.items()]
    if "openvino" in choice.median_ms:
        found.append(_bfloat16(bundle, threads))
    return found, choice


def check_runtime(
    bundle: Bundle, choice: Choice | None, runtime: str, threads: int, say: Callable[[str], object]
) -> tuple[Findings, Measured]:
    """The engine that `spinn run` would take, with its profile.

    Args:
        choice: what `auto` found; None: nothing.
    """
    troubles: list[str] = []
    name = choice.order[0] if choice is not None and runtime == "auto" else runtime
    engine = open_engine(bundle, name, threads=threads, say=say, warn=troubles.append)
    for start, stop in bundle.pieces(0, bundle.last):
        engine.prepare(start, stop)
    profile = stored_profile(bundle, engine, threads=threads, say=say)
    to_do = "" if runtime == "auto" else "--runtime auto takes what works"
    found = [Finding("runtime", "warning", text, to_do) for text in troubles]
    why = engine.name if choice is None else choice.why
    text = why if runtime == "auto" else f"{engine.name}, as --runtime asks; of all, {why}"
    return [*found, Finding("runtime", "ok", text)], Measured(engine, profile)


def _bfloat16(bundle: Bundle, threads: int) -> Finding:
    from spinn_stream.runtime.engines.openvino import OpenVinoEngine

    if OpenVinoEngine(bundle, threads=threads).precision == "bf16":
        return Finding("bfloat16", "ok", "this processor computes in it, and openvino uses it")
    return Finding("bfloat16", "skipped", "this processor does not compute in it; openvino runs in float32")


def check_source(text: str | None) -> tuple[Findings, Pixels | None]:
    """Open the source as `spinn run` does, and read for some seconds. Gives the last frame.

    Without a source, the first camera is tried; it may be missing.
    """
    last = None
    if text is not None:
        found, last = _try_source(f"source {shown(text)}", text, "failed")
    elif sys.platform != "linux":
        found = Finding("camera", "skipped", "not tried", "--source 0 tries the first camera")
    else:
        numbers = sorted(int(p.name[5:]) for p in Path("/dev").glob("video*") if p.name[5:].isdecimal())
        if numbers:
            found, last = _try_source(f"camera {numbers[0]}", str(numbers[0]), "warning")
        else:
            to_do = "a file or an rtsp:// address works, too: --source"
            found = Finding("camera", "warning", "no camera found", to_do)
    return [found], last


def _try_source(name: str, text: str, trouble: State) -> tuple[Finding, Pixels | None]:
    try:
        seen = within(SOURCE_LIMIT_S, lambda: _play(text))
    except TimeoutError:
        to_do = "is another program using it? plug it in again, or try another address"
        return Finding(name, trouble, f"hangs: not read within {SOURCE_LIMIT_S:.0f} s", to_do), None
    except SourceError as error:
        return Finding(name, trouble, str(error), "--source takes a video file, a camera's number, or rtsp://..."), None
    if seen.last is None:
        return Finding(name, trouble, "opens, but gives no frame", "is another program using it? is it damaged?"), None
    state: State = "ok"
    said, to_do = f"{seen.last.shape[1]}x{seen.last.shape[0]}", ""
    if seen.per_second is not None:
        said += f", read at {seen.per_second:.1f} frames/s"
    if seen.recorded is not None:
        said += f", recorded at {seen.recorded:.1f}"
        if seen.per_second is not None and seen.per_second < seen.recorded:
            state, to_do = "warning", "frames will be dropped; smaller pictures are read faster"
    return Finding(name, state, said, to_do), seen.last


@dataclass(frozen=True)
class _Seen:
    """What was read. per_second: None for a single frame. recorded: a file's own frames/s."""

    last: Pixels | None
    per_second: float | None
    recorded: float | None


def _play(text: str) -> _Seen:
    source = open_source(text)
    try:
        times: list[float] = []
        last: Pixels | None = None
        for picture in source.pictures():
            if not isinstance(picture, Picture):
                continue
            last = picture.pixels
            times.append(time.monotonic())
            if len(times) == PLAYED_FRAMES or times[-1] - times[0] > PLAYED_S:
                break
        took = times[-1] - times[0] if times else 0.0
        return _Seen(last, (len(times) - 1) / took if took > 0 else None, source.fps)
    finally:
        source.close()


def check_deadline(
    bundle: Bundle, profile: Profile, deadline_ms: float, trip: RoundTrip | None
) -> tuple[Findings, None]:
    """Whether answers come in time on an idle device, with the time that the pipeline keeps to spare."""
    needed = bundle.needed(bundle.default_threshold).keys()

    def takes(split: int, exits: Collection[int]) -> float:
        pieces = bundle.pieces(0, split, exits)
        return profile.preprocess.median_ms + profile.expected_ms(pieces, [e for e in exits if e <= split])

    first = bundle.exits[0]
    found = [
        _fits(f"the first exit, {first.name}", takes(first.cut, [first.cut]), deadline_ms, "failed",
              "or frames end without an answer"),
        _fits("the whole network", takes(bundle.last, needed), deadline_ms, "warning",
              "or unsure frames are answered by an early exit"),
    ]  # fmt: skip
    if trip is not None:
        what = f"the server's answer from {bundle.cut_points[trip.split].name}"
        otherwise = "or the device answers alone; another --split may be faster, too"
        found.append(_fits(what, trip.median_ms, deadline_ms, "warning", otherwise))
    return found, None


def _fits(what: str, ms: float, deadline_ms: float, late: State, otherwise: str) -> Finding:
    text = f"{what}: {ms:.1f} ms after the frame"
    if ms + SPARE_MS <= deadline_ms:
        return Finding("deadline", "ok", f"{text}, in time for {deadline_ms:g} ms")
    text += f" and {SPARE_MS:g} ms to spare: too late for {deadline_ms:g} ms"
    to_do = f"--deadline-ms {ms + SPARE_MS + 1:.0f} or more, a faster runtime or device, {otherwise}"
    return Finding("deadline", late, text, to_do)


def check_clock() -> tuple[Findings, None]:
    """Deadlines are timers: are they on time?"""
    step_ms = time.get_clock_info("monotonic").resolution * 1000
    late = uvloop.run(_lateness_ms())
    text = f"timers are {late:.1f} ms late (median of {TIMER_RUNS}), the clock steps by {step_ms:.6f} ms"
    if late > SPARE_MS or step_ms > 1:
        to_do = "the machine is busy, or a virtual one that is short of time: end what else runs, or move"
        return [Finding("clock", "warning", text, to_do)], None
    return [Finding("clock", "ok", text)], None


async def _lateness_ms() -> float:
    late = []
    for _ in range(TIMER_RUNS):
        began = time.monotonic()
        await asyncio.sleep(TIMER_S)
        late.append((time.monotonic() - began - TIMER_S) * 1000)
    return max(0.0, median(late))
