"""The choice of an engine: by name, or the fastest one that this machine has."""

from __future__ import annotations

import importlib.metadata
import json
import logging
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import ConfigError, EngineError
from ..model.bundle import Bundle, load_bundle
from . import store
from .engine import Engine
from .engines import PACKAGES, installed, open_one
from .fallback import FallbackEngine
from .timing import StopRule, sample, summary

log = logging.getLogger(__name__)

RUNTIMES = ("auto", *PACKAGES)

MEASURING_TIMEOUT_S = 120.0
"""For one engine: loading torch from a slow card takes half a minute."""

RULE = StopRule(least=10, spread=0.005, budget_s=0.5)

TURNS = 2
"""How often each engine is measured; the faster one counts: where memory falls differs from process to process."""


@dataclass(frozen=True)
class Choice:
    """What `auto` found. median_ms: of the whole network at batch 1, by engine. refused: engine -> why."""

    median_ms: dict[str, float]
    refused: dict[str, str]

    @property
    def order(self) -> list[str]:
        """Engines that work, the fastest first."""
        return sorted(self.median_ms, key=lambda name: self.median_ms[name])

    @property
    def why(self) -> str:
        """For people: the choice and what it rests on."""
        times = ", ".join(f"{name} {self.median_ms[name]:.2f} ms" for name in self.order)
        return f"{self.order[0]} is the fastest here for a batch of 1: {times}"


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
    if runtime not in RUNTIMES:
        raise ConfigError(f"runtime {runtime!r} is not known; expected one of {', '.join(RUNTIMES)}")
    if runtime == "auto":
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
    versions = {PACKAGES[name]: importlib.metadata.version(PACKAGES[name]) for name in names}
    key = {"bundle": bundle.hash, "threads": threads, "versions": versions, **store.machine()}
    kept = None if again else store.load("engines", key)
    if kept is not None:
        return Choice(dict(kept["median_ms"]), dict(kept["refused"]))
    say(f"measuring {', '.join(names)} on this machine, once ...")
    choice = Choice({}, {})
    for name in names * TURNS:
        if name in choice.refused:
            continue
        try:
            found = _measure_apart(bundle, name, threads)
            choice.median_ms[name] = min(found, choice.median_ms.get(name, found))
        except EngineError as error:
            choice.refused[name] = str(error)
            choice.median_ms.pop(name, None)
    if not choice.median_ms:
        raise EngineError("no engine works here: " + "; ".join(choice.refused.values()))
    store.save("engines", key, {"median_ms": choice.median_ms, "refused": choice.refused})
    return choice


def measure_whole(bundle: Bundle, engine: Engine) -> float:
    """Median ms of the whole network without exits, batch of 1."""
    x = np.zeros((1, *bundle.cut_points[0].shape), np.float32)
    engine.prepare(0, bundle.last, exit=False)
    return summary(sample([lambda: engine.run(0, bundle.last, x, exit=False)], RULE)[0]).median_ms


def _measure_apart(bundle: Bundle, name: str, threads: int) -> float:
    """`measure_whole` in another process."""
    command = [sys.executable, "-m", "spinn_stream.runtime.choice", str(bundle.graph_path.parent), name, str(threads)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=MEASURING_TIMEOUT_S, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise EngineError(f"{name} could not be measured: {error}") from error
    try:
        found: Any = json.loads(done.stdout.splitlines()[-1])
    except (IndexError, ValueError):
        raise EngineError(f"{name} ended with {done.returncode} when it was measured") from None
    if "error" in found:
        raise EngineError(str(found["error"]))
    return float(found["median_ms"])


def _main(folder: str, name: str, threads: str) -> None:
    try:
        bundle = load_bundle(Path(folder))
        found: dict[str, Any] = {"median_ms": measure_whole(bundle, open_one(bundle, name, threads=int(threads)))}
    except Exception as error:  # whatever it is, the parent is told and goes on without this engine
        found = {"error": f"{name}: {error}"}
    print(json.dumps(found))


if __name__ == "__main__":
    _main(*sys.argv[1:])
