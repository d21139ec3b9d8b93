"""The bundle of 200 classes that most benchmarks run: streams of its classes are labelled, its figures published."""

from __future__ import annotations

from pathlib import Path

LITE2_200 = Path(__file__).parent / "bundles" / "lite2-200"
