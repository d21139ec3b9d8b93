"""The engines by name. Each is a file and a registration here. Its file is imported only when it is opened."""

from __future__ import annotations

import importlib
import importlib.metadata
from dataclasses import dataclass

from spinn_stream.bundle import Bundle
from spinn_stream.errors import EngineError

from .base import Engine


@dataclass(frozen=True)
class EngineKind:
    """A kind of engine.

    name: as `--runtime` takes it. opener: "module:function", called with the bundle and `threads`; gives an `Engine`.
    package: its main distribution; measurements are kept by its version. install: the command that installs it.
    also: other packages by their import names, each with the command that installs it.
    float32_of: the engine that this one is in float32; if that engine computes in float32 anyway, both are the same.
    """

    name: str
    opener: str
    package: str
    install: str
    also: tuple[tuple[str, str], ...] = ()
    float32_of: str = ""


ENGINES: dict[str, EngineKind] = {}
"""By name, in the order of fallback."""


def register(kind: EngineKind) -> None:
    """Register an engine for `--runtime` and `auto`. It replaces one of the same name."""
    ENGINES[kind.name] = kind


_ROOM = "spinn_stream.runtime"
register(EngineKind("onnxruntime", f"{_ROOM}.engines.onnx:open_engine", "onnxruntime", "pip install onnxruntime"))
register(EngineKind("openvino", f"{_ROOM}.engines.openvino:open_engine", "openvino", "pip install openvino"))
register(
    EngineKind(
        "openvino-f32", f"{_ROOM}.engines.openvino:open_float32", "openvino", "pip install openvino",
        float32_of="openvino",
    )
)  # fmt: skip
register(
    EngineKind(
        "torch", f"{_ROOM}.torch.engine:open_engine", "torch", "pip install torch==2.13.0 onnx",
        also=(("onnx", "pip install onnx"),),
    )
)  # fmt: skip


def installed() -> list[str]:
    """Engines whose package is installed. Whether they work shows only when they are opened."""
    return [name for name, kind in ENGINES.items() if _is_installed(kind.package)]


def open_one(bundle: Bundle, name: str, *, threads: int) -> Engine:
    """The engine of that name and no other.

    Raises:
        EngineError: its package is not installed or does not load here; it cannot read the graph.
        BundleError: the graph is none.
    """
    kind = ENGINES.get(name)
    if kind is None:
        raise EngineError(f"there is no engine {name}; expected one of {', '.join(ENGINES)}")
    module, _, function = kind.opener.partition(":")
    try:
        engine: Engine = getattr(importlib.import_module(module), function)(bundle, threads=threads)
    except ImportError as error:
        missing = (error.name or "").partition(".")[0] if isinstance(error, ModuleNotFoundError) else ""
        if missing == kind.package:
            raise EngineError(f"{name} is not installed ({kind.install})") from error
        for package, install in kind.also:
            if missing == package:
                raise EngineError(f"{name} needs the package {package}, too ({install})") from error
        raise EngineError(f"{name} does not load here: {error}") from error
    return engine


def _is_installed(package: str) -> bool:
    try:
        importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return False
    return True
