"""What both ends load: cut points, exits, thresholds and tables of one network. Knows no other room."""

from spinn_stream.frame import InputSpec

from .bundle import CODEC, Bundle, CutPoint, Exit, PayloadRow, ThresholdRow
from .labels import LabelMap, label_map, load_labels
from .manifest import DEFAULT_BUNDLE, EXIT_PREFIX, FORMAT, GRAPH, MANIFEST, MAX_ELEMENTS, VERSION, load_bundle

__all__ = [
    "CODEC", "DEFAULT_BUNDLE", "EXIT_PREFIX", "FORMAT", "GRAPH", "MANIFEST", "MAX_ELEMENTS", "VERSION", "Bundle",
    "CutPoint", "Exit", "InputSpec", "LabelMap", "PayloadRow", "ThresholdRow", "label_map", "load_bundle",
    "load_labels",
]  # fmt: skip
