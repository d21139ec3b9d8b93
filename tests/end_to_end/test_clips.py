"""The judged runs on real clips: 30 frames a second, a split in the middle, a middle threshold."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from ..processes import run_client, server

FRAMES = "300"


@pytest.mark.parametrize("clip", ["bottle-detection.mp4", "one-by-one-person-detection.mp4", "book.mkv"])
def test_a_clip_at_30_frames_a_second(shared: Path, tmp_path: Path, clip: str) -> None:
    source = ("--source", str(shared / "clips" / clip), "--frames", FRAMES, "--loop")
    with server() as running:
        out = run_client(tmp_path / "split", *source, "--fps", "30", "--server", running.address, "--split", "9")
    out.check_contract(150)
    assert out.summary["taken"] >= 0.95 * int(FRAMES)
    assert out.summary["server"] > 0
    alone = run_client(tmp_path / "alone", *source, "--unpaced", "--threshold", "none", "--deadline-ms", "60000")
    whole = [r for r in out.finals if r["where"] == "server" and r["reason"] == "final_exit"]
    agree = np.mean([r["label"] == alone.labels[r["frame"]] for r in whole])
    assert agree >= 0.97, f"{agree:.3f} of {len(whole)}"
