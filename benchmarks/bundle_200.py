"""Finds the bundle of 200 classes, with which benchmarks are compared."""

from __future__ import annotations

from pathlib import Path

from spinn_stream.bundle import Bundle, load_bundle

ROOT = Path(__file__).parent.parent
PLACES = (ROOT / "benchmarks" / "bundles" / "lite2-200", ROOT / "spinn_stream" / "bundles" / "lite2-200")


def bundle_200() -> Bundle:
    """The bundle's folder. Raises FileNotFoundError: it is at none of its places."""
    for place in PLACES:
        if place.is_dir():
            return load_bundle(place)
    raise FileNotFoundError(f"the bundle of 200 classes is not at {' or '.join(map(str, PLACES))}")
