"""The choice of an engine: by name, or the fastest one that this machine has."""

from __future__ import annotations

import importlib.metadata
import json
import logging
import math
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

from spinn_stream.bundle import Bundle
from spinn_stream.errors import ConfigError, EngineError
from spinn_stream.runtime.engines.base import Engine
from spinn_stream.runtime.engines.registry import ENGINES, installed, open_one
from spinn_stream.runtime.measure.worker import NEW

from .fallback import FallbackEngine
from .measure import store

log = logging.getLogger(__name__)

AUTO = "auto"


def runtimes() -> tuple[str, ...]:
    """What `--runtime` takes."""
    return (AUTO, *ENGINES)


MEASURING_TIMEOUT_S = 120.0
"""For one answer of an engine: loading torch from a slow card takes half a minute."""

ROUNDS, BUILD_EVERY = 12, 3
"""Streaks of runs of each engine, and after how many its graphs are built anew."""

HOPELESS = 1.5
"""An engine that takes more than so many times as long as the fastest one, after one round, runs no more."""

TIE = 0.01
"""Engines that differ by no more are equally fast: the medians of so many rounds are not known any better."""


@dataclass(frozen=True)
class Choice:
    """What `auto` found. median_ms: of the network in two halves at batch 1, by engine. refused: engine -> why."""

    median_ms: dict[str, float]
    refused: dict[str, str]

    @property
    def order(self) -> list[str]:
        """Engines that work, the fastest first; of those that are equally fast, as they are fallen back to."""
        by_time = sorted(self.median_ms, key=lambda name: self.median_ms[name])
        equal = [n for n in ENGINES if self.median_ms.get(n, math.inf) <= (1 + TIE) * self.median_ms[by_time[0]]]
        return equal + [name for name in by_time if name not in equal]

    @property
    def why(self) -> str:
        """For people: the choice and what it rests on."""
        times = ", ".join(
            f"{name} {self.median_ms[name]:.2f} ms" for name in sorted(self.median_ms, key=self.median_ms.__getitem__)
        )
        how = "the fastest" if self.median_ms[self.order[0]] == min(self.median_ms.values()) else "as fast as any"
        return f"{self.order[0]} is {how} here for a batch of 1: {times}"


def open_engine(
    bundle: Bundle,
    runtime: str = "auto",
    *,
    threads: int = 1,
    say: Callable[[str], object] = log.info,
    warn: Callable[[str], object] = log.warning,
) -> Engine:
    """The engine of that name with so many threads for one run; `auto`: the fastest, as `choose_engine` measured.

    Where it cannot be opened or cannot build a piece, the next one that is installed takes over; `warn` is told.

    Args:
        say: gets one line on what was chosen and why.

    Raises:
        ConfigError: no such runtime. EngineError: none works here. BundleError: the graph is none.
    """
    if runtime not in runtimes():
        raise ConfigError(f"runtime {runtime!r} is not known; expected one of {', '.join(runtimes())}")
    if runtime == AUTO:
        choice = choose_engine(bundle, threads=threads, say=say)
        say(choice.why)
        names = choice.order
    else:
        names = [runtime, *(name for name in installed() if name != runtime)]
    return FallbackEngine([(name, _opener(bundle, name, threads)) for name in names], warn=warn)


def _opener(bundle: Bundle, name: str, threads: int) -> Callable[[], Engine]:
    return lambda: open_one(bundle, name, threads=threads)


def choose_engine(
    bundle: Bundle, *, threads: int = 1, again: bool = False, say: Callable[[str], object] = log.info
) -> Choice:
    """Measure every engine that is installed, once for each bundle, machine, version and number of threads.

    Each is measured in a process of its own: one that the processor does not support may end it.

    Args:
        again: measure anew, whatever is kept.

    Raises:
        EngineError: none works here; says why of each.
    """
    names = installed()
    versions = {ENGINES[name].package: importlib.metadata.version(ENGINES[name].package) for name in names}
    key = {
        "bundle": bundle.hash,
        "threads": threads,
        "versions": versions,
        "of": "halves in streaks of 20",
        **store.machine(),
    }
    kept = None if again else store.load("engines", key)
    if kept is not None:
        return Choice(dict(kept["median_ms"]), dict(kept["refused"]))
    say(f"measuring {', '.join(names)} on this machine, once ...")
    choice = _measure(bundle, names, threads)
    if not choice.median_ms:
        raise EngineError("no engine works here: " + "; ".join(choice.refused.values()))
    store.save("engines", key, {"median_ms": choice.median_ms, "refused": choice.refused})
    return choice


class _Worker:
    """One engine in another process; see `measuring`."""

    def __init__(self, bundle: Bundle, name: str, threads: int) -> None:
        self.name = name
        self.times: list[float] = []
        self.precision = ""  # known when it is ready
        folder = str(bundle.graph_path.parent)
        try:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "spinn_stream.runtime.measure.worker", folder, name, str(threads)],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
            )  # fmt: skip
        except OSError as error:
            raise EngineError(f"{name} could not be measured: {error}") from error

    def wait_ready(self) -> None:
        """Raises EngineError where the engine does not work."""
        self.precision = self._read("ready")["precision"]

    def measure(self, *, new: bool) -> None:
        """One streak, with graphs that are built for it or those there are. Raises: EngineError."""
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(NEW + "\n" if new else "\n")
            self._process.stdin.flush()
        except OSError as error:
            raise EngineError(f"{self.name} ended while it was measured") from error
        self.times.append(float(self._read("median_ms")["median_ms"]))

    def end(self) -> None:
        self._process.kill()
        self._process.communicate()

    def _read(self, key: str) -> dict[str, Any]:
        assert self._process.stdout is not None
        timer = threading.Timer(MEASURING_TIMEOUT_S, self._process.kill)
        timer.start()
        try:
            found: dict[str, Any] = json.loads(self._process.stdout.readline() or "{}")
        except ValueError:
            found = {}
        finally:
            timer.cancel()
        if key not in found:
            if "error" in found:
                raise EngineError(str(found["error"]))
            self._process.kill()  # it may hang with its output closed; where it ended by itself, this does nothing
            raise EngineError(f"{self.name} could not be measured: its process ended with {self._process.wait()}")
        return found


def _measure(bundle: Bundle, names: Sequence[str], threads: int) -> Choice:
    """All engines in turn, so that a machine whose speed drifts is as fast for each."""
    choice = Choice({}, {})
    workers: list[_Worker] = []
    try:
        for name in names:  # one after the other: loading is not measured, but takes memory and both cores
            if any(w.name == ENGINES[name].float32_of and w.precision == "f32" for w in workers):
                continue  # the same here
            try:
                workers.append(_Worker(bundle, name, threads))
                workers[-1].wait_ready()
            except EngineError as error:
                choice.refused[name] = str(error)
        for done in range(ROUNDS):
            running = [w for w in workers if w.name not in choice.refused and len(w.times) == done]
            if done == 1:
                fastest = min((w.times[0] for w in running), default=0.0)
                running = [w for w in running if w.times[0] <= HOPELESS * fastest]
            for worker in running:
                try:
                    worker.measure(new=done > 0 and done % BUILD_EVERY == 0)
                except EngineError as error:
                    choice.refused[worker.name] = str(error)
    finally:
        for worker in workers:
            worker.end()
    choice.median_ms.update(_medians([worker for worker in workers if worker.name not in choice.refused]))
    for name in names:
        if ENGINES[name].float32_of in choice.median_ms:
            choice.median_ms.setdefault(name, choice.median_ms[ENGINES[name].float32_of])
    return choice


def _medians(measured: Sequence[_Worker]) -> dict[str, float]:
    """By the ratios in each round, which a machine that changes its speed between rounds does not move; ms."""
    base = max(measured, key=lambda worker: len(worker.times)).times if measured else []
    ratios = {w.name: median(ms / other for ms, other in zip(w.times, base, strict=False)) for w in measured}
    return {name: ratio * median(base) for name, ratio in ratios.items()}
