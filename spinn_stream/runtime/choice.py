"""The choice of an engine by name."""

from __future__ import annotations

from ..errors import ConfigError
from ..model.bundle import Bundle
from .engine import Engine

RUNTIMES = ("auto", "onnxruntime")


def open_engine(bundle: Bundle, runtime: str = "auto", *, threads: int = 1) -> Engine:
    """The engine of that name, with so many threads for one run.

    Raises:
        ConfigError: no such runtime. EngineError: it cannot load the bundle.
    """
    if runtime not in RUNTIMES:
        raise ConfigError(f"runtime {runtime!r} is not known; expected one of {', '.join(RUNTIMES)}")
    from .onnx_engine import OnnxEngine

    return OnnxEngine(bundle, threads=threads)
