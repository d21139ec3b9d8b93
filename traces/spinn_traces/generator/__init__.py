"""Made-up networks: a Markov-modulated model with outages, fitted to real traces."""

from .comparison import Compared, compare
from .fit import Settings, derive, fit
from .generate import generate
from .model import MODELS, Flow, Model, Outages, load_model

__all__ = [
    "MODELS",
    "Compared",
    "Flow",
    "Model",
    "Outages",
    "Settings",
    "compare",
    "derive",
    "fit",
    "generate",
    "load_model",
]
