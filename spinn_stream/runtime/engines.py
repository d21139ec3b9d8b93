"""The engines by name, each imported only when it is opened."""

from __future__ import annotations

import importlib.metadata

from ..errors import EngineError
from ..model.bundle import Bundle
from .engine import Engine

PACKAGES = {"onnxruntime": "onnxruntime", "openvino": "openvino", "openvino-f32": "openvino", "torch": "torch"}
"""Engine -> the package it needs. In the order they are fallen back to."""

HOW_TO_INSTALL = {
    "onnxruntime": "pip install onnxruntime",
    "openvino": "pip install openvino",
    "torch": "pip install torch==2.13.0 onnx",
}


def installed() -> list[str]:
    """Engines whose package is installed; whether they work shows when they are opened."""
    found = []
    for name, package in PACKAGES.items():
        try:
            importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
        found.append(name)
    return found


def open_one(bundle: Bundle, name: str, *, threads: int) -> Engine:
    """The engine of that name and no other.

    torch takes a CUDA device where it sees one.

    Raises:
        EngineError: its package is not installed or does not load here; it cannot read the graph.
        BundleError: the graph is none.
    """
    if name not in PACKAGES:
        raise EngineError(f"there is no engine {name}")
    try:
        if name == "torch":
            import torch

            from .torch import TorchEngine

            return TorchEngine(bundle, threads=threads, device="cuda" if torch.cuda.is_available() else "cpu")
        if name == "onnxruntime":
            from .onnx_engine import OnnxEngine

            return OnnxEngine(bundle, threads=threads)
        from .openvino_engine import OpenVinoEngine

        return OpenVinoEngine(bundle, threads=threads, precision="f32" if name == "openvino-f32" else "auto")
    except ImportError as error:
        package = PACKAGES[name]
        missing = (error.name or "").partition(".")[0] if isinstance(error, ModuleNotFoundError) else ""
        if missing == package:
            raise EngineError(f"{name} is not installed ({HOW_TO_INSTALL[package]})") from error
        if (name, missing) == ("torch", "onnx"):
            raise EngineError("torch needs the package onnx, too (pip install onnx)") from error
        raise EngineError(f"{name} does not load here: {error}") from error
