"""Engines for `spinn serve` in a process of its own, registered by importing this: ONNX Runtime's until a file appears.

The files are named by environment variables. While SETTING_UP exists, the engine does not open. Once BROKEN exists,
every run of `dying` fails, and no run of `hanging` ever ends. They bear ONNX Runtime's name, so that what was measured
of it counts for them.
"""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path

from spinn_stream.bundle import Bundle
from spinn_stream.runtime import Engine, ExitOutput
from spinn_stream.runtime.engines.base import Activation
from spinn_stream.runtime.engines.registry import EngineKind, open_one, register

from .engines import Wrapped

SETTING_UP, BROKEN = "SPINN_TEST_SETTING_UP", "SPINN_TEST_BROKEN"


def _is_there(variable: str) -> bool:
    return variable in os.environ and Path(os.environ[variable]).exists()


class Dying(Wrapped):
    name = "onnxruntime"

    def run(self, start: int, stop: int, x: Activation, *, exit: bool = True) -> tuple[Activation, ExitOutput | None]:
        if _is_there(BROKEN):
            raise RuntimeError("the device is gone")
        return super().run(start, stop, x, exit=exit)


class Hanging(Wrapped):
    name = "onnxruntime"

    def run(self, start: int, stop: int, x: Activation, *, exit: bool = True) -> tuple[Activation, ExitOutput | None]:
        if _is_there(BROKEN):
            threading.Event().wait()
        return super().run(start, stop, x, exit=exit)


def open_dying(bundle: Bundle, *, threads: int) -> Engine:
    while _is_there(SETTING_UP):
        time.sleep(0.01)
    return Dying(open_one(bundle, "onnxruntime", threads=threads))


def open_hanging(bundle: Bundle, *, threads: int) -> Engine:
    return Hanging(open_one(bundle, "onnxruntime", threads=threads))


register(EngineKind("dying", f"{__name__}:open_dying", "onnxruntime", "pip install onnxruntime"))
register(EngineKind("hanging", f"{__name__}:open_hanging", "onnxruntime", "pip install onnxruntime"))
