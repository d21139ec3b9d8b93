"""PyTorch as an engine, and a bundle's graph as modules that can be trained on."""

from .engine import TorchEngine
from .graph import Part, TorchGraph, bundle_stages

__all__ = ["Part", "TorchEngine", "TorchGraph", "bundle_stages"]
