"""Which bundle tests run: the small one, if they do not ask for what a user gets."""

from __future__ import annotations

from pathlib import Path

from spinn_stream.bundle import DEFAULT_BUNDLE

LITE2_200 = Path(__file__).parent.parent / "benchmarks" / "bundles" / "lite2-200"
"""200 classes at 128 px, exits behind blocks 11 and 16: a frame takes half as long as with the default bundle."""

SMALL = ("--bundle", str(LITE2_200))
DEFAULT = ("--bundle", str(DEFAULT_BUNDLE))
"""For `server` and `run_client`, which name the small one otherwise."""
