"""The choice of an engine: by name, or the fastest on this machine."""

from __future__ import annotations

import importlib.metadata
import json
import logging
import math
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

from spinn_stream.bundle import Bundle
from spinn_stream.errors import ConfigError, EngineError
from spinn_stream.runtime.engines.base import Engine
from spinn_stream.runtime.engines.registry import ENGINES, installed, open_one
from spinn_stream.runtime.measure.timing import Stop, check, never
from spinn_stream.runtime.measure.worker import NEW

from .fallback import FallbackEngine
from .measure import store

log = logging.getLogger(__name__)

AUTO = "auto"


def runtimes() -> tuple[str, ...]:
    """The names that `--runtime` takes."""
    return (AUTO, *ENGINES)


MEASURING_TIMEOUT_S = 120.0
"""Time-out for one answer of an engine: loading torch from a slow card takes half a minute."""

ASK_EVERY_S = 0.1
"""Time between two calls of `stop` while an engine is waited for."""

EACH_S = 3
"""Approximate time to load and measure one engine on the slower machines that were seen."""

ROUNDS, BUILD_EVERY = 12, 3
"""Streaks of runs of each engine, and after how many its graphs are built anew."""

HOPELESS = 1.5
"""An engine that is slower than the fastest one by more than this factor in the first round is not tried again."""

TIE = 0.01
"""Engines that differ by at most this are equally fast: medians are not known more exactly."""


@dataclass(frozen=True)
class Choice:
    """The result of `auto`. median_ms: of the network in two halves at batch 1, by engine. refused: engine -> why."""

    median_ms: dict[str, float]
    refused: dict[str, str]

    @property
    def order(self) -> list[str]:
        """Engines that work, the fastest first; equally fast ones in the order of fallback."""
        by_time = sorted(self.median_ms, key=lambda name: self.median_ms[name])
        equal = [n for n in ENGINES if self.median_ms.get(n, math.inf) <= (1 + TIE) * self.median_ms[by_time[0]]]
        return equal + [name for name in by_time if name not in equal]

    @property
    def why(self) -> str:
        """The choice and its figures, for people."""
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
    stop: Stop = never,
) -> Engine:
    """The engine of that name, with `threads` threads for one run; `auto`: the fastest, as `choose_engine` measured.

    If it cannot be opened or cannot build a piece, the next installed one takes over, and `warn` gets a line.

    Args:
        say: gets a line on the choice and its reason, and those of `choose_engine`.
        stop: as of `choose_engine`; building is not interrupted.

    Raises:
        ConfigError: no such runtime. EngineError: no engine works here. BundleError: the graph is not valid.
        Interrupted: `stop` said so during a measurement.
    """
    if runtime not in runtimes():
        raise ConfigError(f"runtime {runtime!r} is not known; expected one of {', '.join(runtimes())}")
    if runtime == AUTO:
        choice = choose_engine(bundle, threads=threads, say=say, stop=stop)
        say(choice.why)
        names = choice.order
    else:
        names = [runtime, *(name for name in installed() if name != runtime)]
    return FallbackEngine([(name, _opener(bundle, name, threads)) for name in names], warn=warn)


def _opener(bundle: Bundle, name: str, threads: int) -> Callable[[], Engine]:
    return lambda: open_one(bundle, name, threads=threads)


def choose_engine(
    bundle: Bundle, *, threads: int = 1, again: bool = False, say: Callable[[str], object] = log.info,
    stop: Stop = never,
) -> Choice:  # fmt: skip
    """Measure every installed engine, once for each bundle, machine, version and number of threads.

    Each is measured in a process of its own, since an engine may crash on a processor that it does not support. One
    process of the user measures at a time; others wait, and use its result.

    Args:
        again: measure anew, even if there is a kept result. say: gets a line before something slow.
        stop: called every tenth of a second, by another thread, too.

    Raises:
        EngineError: no engine works here; gives the reason of each. Interrupted: `stop` said so; no process is left.
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
    kept = None if again else _kept(key)
    if kept is not None:
        return kept
    with store.alone(say, stop):
        kept = None if again else _kept(key)  # another process measured it meanwhile
        if kept is not None:
            return kept
        say(f"measuring {', '.join(names)} on this machine, once: about {EACH_S * len(names)} s ...")
        choice = _measure(bundle, names, threads, stop)
        if not choice.median_ms:
            raise EngineError("no engine works here: " + "; ".join(choice.refused.values()))
        store.save("engines", key, {"median_ms": choice.median_ms, "refused": choice.refused})
    return choice


def _kept(key: dict[str, Any]) -> Choice | None:
    found = store.load("engines", key)
    return None if found is None else Choice(dict(found["median_ms"]), dict(found["refused"]))


class _Worker:
    """One engine in another process; see `measure.worker`.

    All methods raise Interrupted if `stop` says so, and EngineError if the engine does not work.
    """

    def __init__(self, bundle: Bundle, name: str, threads: int, stop: Stop) -> None:
        self.name = name
        self._stop = stop
        self.times: list[float] = []
        self.precision = ""  # known when it is ready
        folder = str(bundle.graph_path.parent)
        try:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "spinn_stream.runtime.measure.worker", folder, name, str(threads)],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
                start_new_session=True,  # Ctrl-C is for this process: an engine that died of it would count as refused
            )  # fmt: skip
        except OSError as error:
            raise EngineError(f"{name} could not be measured: {error}") from error

    def wait_ready(self) -> None:
        """Wait until the engine is loaded and has run once."""
        self.precision = self._read("ready")["precision"]

    def measure(self, *, new: bool) -> None:
        """Measure one streak, with new graphs or the present ones."""
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
        read = threading.Event()
        watch = threading.Thread(target=self._watch, args=(read,), name=f"measuring {self.name}", daemon=True)
        watch.start()
        try:
            found: dict[str, Any] = json.loads(self._process.stdout.readline() or "{}")
        except ValueError:
            found = {}
        finally:
            read.set()
            watch.join()
        if key not in found:
            check(self._stop)
            if "error" in found:
                raise EngineError(str(found["error"]))
            self._process.kill()  # it may hang with its output closed; if it has ended, this does nothing
            raise EngineError(f"{self.name} could not be measured: its process ended with {self._process.wait()}")
        return found

    def _watch(self, read: threading.Event) -> None:
        """End the process if it takes too long or `stop` says so, so that the reader goes on."""
        give_up = time.monotonic() + MEASURING_TIMEOUT_S
        while not read.wait(ASK_EVERY_S):
            if self._stop() or time.monotonic() > give_up:
                self._process.kill()
                return


def _measure(bundle: Bundle, names: Sequence[str], threads: int, stop: Stop) -> Choice:
    """Measure all engines in turn, so that a drift of the machine's speed meets each of them."""
    choice = Choice({}, {})
    workers: list[_Worker] = []
    try:
        for name in names:  # one after the other: loading is not measured, but takes memory and both cores
            if any(w.name == ENGINES[name].float32_of and w.precision == "f32" for w in workers):
                continue  # the same here
            try:
                check(stop)
                workers.append(_Worker(bundle, name, threads, stop))
                workers[-1].wait_ready()
            except EngineError as error:
                choice.refused[name] = str(error)
        for done in range(ROUNDS):
            running = [w for w in workers if w.name not in choice.refused and len(w.times) == done]
            if done == 1:
                fastest = min((w.times[0] for w in running), default=0.0)
                running = [w for w in running if w.times[0] <= HOPELESS * fastest]
            for worker in running:
                check(stop)
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
    """Medians in ms, from the ratios in each round: changes of the machine's speed between rounds do not matter."""
    base = max(measured, key=lambda worker: len(worker.times)).times if measured else []
    ratios = {w.name: median(ms / other for ms, other in zip(w.times, base, strict=False)) for w in measured}
    return {name: ratio * median(base) for name, ratio in ratios.items()}
