"""The choice of an engine by name."""

from __future__ import annotations

from ..errors import ConfigError
from ..model.bundle import Bundle
from .engine import Engine

RUNTIMES = ("auto", "onnxruntime", "torch")


def open_engine(bundle: Bundle, runtime: str = "auto", *, threads: int = 1) -> Engine:
    """The engine of that name, with so many threads for one run; `auto` is ONNX Runtime.

    Raises:
        ConfigError: no such runtime, or it is not installed. EngineError: it cannot load the bundle.
    """
    if runtime not in RUNTIMES:
        raise ConfigError(f"runtime {runtime!r} is not known; expected one of {', '.join(RUNTIMES)}")
    if runtime == "torch":
        try:
            from .torch import TorchEngine
        except ModuleNotFoundError as error:
            if error.name != "torch":
                raise
            raise ConfigError(
                "runtime torch needs PyTorch, which is not installed: "
                "pip install torch==2.13.0, or use --runtime onnxruntime"
            ) from error
        return TorchEngine(bundle, threads=threads)
    from .onnx_engine import OnnxEngine

    return OnnxEngine(bundle, threads=threads)
