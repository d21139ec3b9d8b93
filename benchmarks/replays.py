"""Replays inside a benchmark, as `spinn replay` runs them."""

from __future__ import annotations

import sys
import time

from spinn_stream.bundle import Bundle
from spinn_stream.runtime import Engine
from spinn_traces.replay.record import RunRecord
from spinn_traces.replay.run.conduct import ReplayConfig, Watcher, conduct


def play(config: ReplayConfig, bundle: Bundle, engine: Engine) -> tuple[list[RunRecord], float]:
    """The records of all runs, and seconds that they took."""
    began = time.monotonic()
    done = conduct(config, bundle, engine, Watcher(lambda text: None, _show))
    if done.failures:
        sys.exit(f"{done.failures[0].trace}, {done.failures[0].policy}: {done.failures[0].why}")
    return list(done.records), time.monotonic() - began


def _show(total: int, done: float, doing: str) -> None:
    if sys.stderr.isatty():
        print(f"\r{done:5.1f} of {total} {doing[:60]:60}", end="", file=sys.stderr)
