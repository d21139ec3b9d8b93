"""The work of every server of `serving.py`, and the engine that does it."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
from bundle_200 import bundle_200

from spinn_stream.bundle import Bundle, load_bundle
from spinn_stream.codec import CodecSetting, PayloadReceiver, PayloadSender, transform
from spinn_stream.frame import crop, normalise
from spinn_stream.runtime import Engine, answers, open_engine

SETTING = CodecSetting(transform.NAME, 6)
SPLIT = "block11"
BATCHES = (1, 2, 4, 8, 16)
MOST = 16
WAIT_S = 0.005  # how long the first request of a batch waits for others, in LitServe and Ray Serve
NO_PICTURE = np.empty((0, 0, 3), np.uint8)

Floats = npt.NDArray[np.float32]


def chosen_bundle(name: str) -> Bundle:
    """200: the bundle of 200 classes; default: the built-in one."""
    return bundle_200() if name == "200" else load_bundle()


def split_of(bundle: Bundle) -> int:
    return bundle.split_index(SPLIT)


def pictures(bundle: Bundle, count: int) -> Floats:
    """Parts of photographs that scikit-image ships, (count, 3, size, size)."""
    from skimage import data

    rng = np.random.default_rng(0)
    found = []
    for n in range(count):
        photograph = np.asarray((data.chelsea, data.coffee, data.astronaut, data.rocket)[n % 4](), np.uint8)[:, :, ::-1]
        height, width, _ = photograph.shape
        side = int(rng.integers(min(height, width) // 2, min(height, width)))
        top, left = int(rng.integers(height - side + 1)), int(rng.integers(width - side + 1))
        part = np.ascontiguousarray(photograph[top : top + side, left : left + side])
        found.append(normalise(crop(part, bundle.input.size), bundle.input))
    return np.concatenate(found)


def key_frames(bundle: Bundle, engine: Engine, split: int, count: int = 16) -> list[bytes]:
    """Payloads that can be decoded alone."""
    heads = pictures(bundle, count)
    for start, stop in bundle.pieces(0, split):
        heads = np.concatenate([engine.run(start, stop, x[None])[0].copy() for x in heads])
    return [PayloadSender(bundle).encode(0, split, SETTING, x[None], NO_PICTURE) for x in heads]


class Tail:
    """Decodes payloads and runs the rest of the network on them, in one thread."""

    def __init__(self, bundle: Bundle) -> None:
        self.bundle = bundle
        self.split = split_of(bundle)
        self._engine = open_engine(bundle, os.environ.get("SERVING_RUNTIME", "onnxruntime"), threads=1)
        self._engine.prepare(self.split, bundle.last, batches=True)
        for size in BATCHES:
            self._engine.run(
                self.split, bundle.last, np.zeros((size, *bundle.cut_points[self.split].shape), np.float32)
            )

    def decode(self, payload: bytes) -> Floats:
        """(1, C, H, W)"""
        return PayloadReceiver(self.bundle).decode(0, self.split, SETTING.codec, payload)

    def run(self, activations: Sequence[Floats]) -> list[int]:
        """The label of each."""
        _, output = self._engine.run(self.split, self.bundle.last, np.concatenate(activations))
        assert output is not None
        final = self.bundle.exits[-1]
        return [answer.top[0][0] for answer in answers(final.name, output, final.temperature)]


class RawEngine:
    """Decoding and tail in a loop, with nothing else.

    core: it runs there, and the process is on the one before again afterwards.
    """

    def __init__(self, bundle: Bundle, payloads: Sequence[bytes], core: int) -> None:
        self.bundle, self._tail, self._payloads, self._core = bundle, Tail(bundle), payloads, core
        self.batch = max(BATCHES, key=lambda size: self._run(size, 1.0)["rps"])

    def run(self, seconds: float) -> dict[str, float]:
        """Requests a second, and CPU for each, at the batch size that was best."""
        return self._run(self.batch, seconds)

    def by_batch(self, seconds: float, rounds: int) -> dict[int, float]:
        """Requests a second at each batch size: medians, measured in turn."""
        found: dict[int, list[float]] = {size: [] for size in BATCHES}
        for _ in range(rounds):
            for size, rates in found.items():
                rates.append(self._run(size, seconds)["rps"])
        return {size: round(float(np.median(rates)), 1) for size, rates in found.items()}

    def _run(self, size: int, seconds: float) -> dict[str, float]:
        cores = os.sched_getaffinity(0)
        os.sched_setaffinity(0, {self._core})
        try:
            done, began, cpu = 0, time.perf_counter(), time.process_time()
            while (passed := time.perf_counter() - began) < seconds:
                picked = [self._payloads[(done + n) % len(self._payloads)] for n in range(size)]
                self._tail.run([self._tail.decode(payload) for payload in picked])
                done += size
            return {"rps": done / passed, "cpu_ms": 1000 * (time.process_time() - cpu) / done}
        finally:
            os.sched_setaffinity(0, cores)


def tree_cpu_s(root: int) -> float:
    """Processor time that a process and its descendants have taken, those that ended and were waited for included."""
    ticks = os.sysconf("SC_CLK_TCK")
    return sum(sum(map(int, _stat(pid)[11:15])) for pid in tree(root)) / ticks


def tree_memory_mb(root: int) -> float:
    """Resident memory of a process and its descendants, shared pages counted for each."""
    return sum(int(_stat(pid)[21]) for pid in tree(root)) * os.sysconf("SC_PAGE_SIZE") / 1e6


def tree(root: int) -> list[int]:
    """A process and its descendants."""
    parents = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                parents[int(entry.name)] = int(_stat(int(entry.name))[1])
            except (OSError, IndexError):
                continue
    found = [root]
    for pid in found:
        found += [child for child, parent in parents.items() if parent == pid]
    return found


def _stat(pid: int) -> list[str]:
    """The fields of /proc/PID/stat from the third on."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
