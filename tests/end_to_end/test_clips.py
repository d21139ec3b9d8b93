"""The judged runs on real clips: 30 frames a second, a split in the middle, a middle threshold."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from ..processes import ServerProcess, run_client

pytestmark = pytest.mark.alone

FRAMES = "75"
THRESHOLD = "0.24"
"""In the middle of what the clips' frames reach: they show little that the model knows, so no exit is very sure."""


@pytest.mark.parametrize(
    "clip",
    [
        "bottle-detection.mp4",
        pytest.param("one-by-one-person-detection.mp4", marks=pytest.mark.slow),
        pytest.param("book.mkv", marks=pytest.mark.slow),
    ],
)
def test_a_clip_at_30_frames_a_second(shared: Path, serving: ServerProcess, tmp_path: Path, clip: str) -> None:
    options = ("--source", str(shared / "clips" / clip), "--frames", FRAMES, "--loop", "--threshold", THRESHOLD)
    out = run_client(tmp_path / "split", *options, "--fps", "30", "--server", serving.address, "--split", "13")
    out.check_contract(150)
    assert out.summary["taken"] >= 0.8 * int(FRAMES)
    assert out.summary["fallback"] <= out.few

    # The whole network in one place, with the same exits at the same threshold: what is left is the codec.
    alone = run_client(tmp_path / "alone", *options, "--unpaced", "--deadline-ms", "60000")
    answered = [r for r in out.finals if r["where"] == "server"]
    agree = np.mean([r["label"] == alone.labels[r["frame"]] for r in answered])
    confident = sum(r["reason"] == "confident" and r["where"] == "device" for r in out.finals)
    print(
        f"{clip}: {out.summary['taken']} taken, {confident} confident on the device, {len(answered)} by the server, "
        f"{100 * agree:.1f} % with the whole network's label, ages {out.summary['age_ms']}"
    )
    assert confident > 0 and answered
    assert agree >= 0.97
