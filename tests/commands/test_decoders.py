"""Decoders keep to themselves what they think of a damaged video: we say what is wrong."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import cv2
import numpy as np
import pytest

from ..processes import SPINN

FRAMES = 60
WORDS_OF_FFMPEG = (" @ 0x", "moov atom", "[ERROR", "[ WARN")


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Noise in motion, so that every part of the file is needed."""
    path = tmp_path_factory.mktemp("clip") / "clip.mp4"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"mp4v"), 30, (160, 120))
    noise = np.random.default_rng(1).integers(0, 255, (120, 160 + FRAMES, 3), np.uint8)
    for k in range(FRAMES):
        writer.write(noise[:, k : k + 160])
    writer.release()
    return path


def said(clip: Path, *options: str) -> str:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("OPENCV_")}
    command = [str(SPINN), "run", "--source", str(clip), "--unpaced", "--runtime", "onnxruntime", "--quiet", *options]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=False).stderr


@pytest.fixture
def damaged(clip: Path, tmp_path: Path) -> Path:
    """Every few hundred bytes in the middle of the pictures some are others."""
    data = bytearray(clip.read_bytes())
    for at in range(len(data) // 4, len(data) * 3 // 4, 400):
        data[at : at + 8] = b"\xff\x00\xff\x00\xff\x00\xff\x00"
    path = tmp_path / "bad.mp4"
    path.write_bytes(data)
    return path


def test_decoders_are_silent_about_a_damaged_clip(damaged: Path) -> None:
    found = said(damaged)
    assert not any(word in found for word in WORDS_OF_FFMPEG), found


def test_a_clip_that_was_cut_off_is_our_one_line(clip: Path, tmp_path: Path) -> None:
    half = tmp_path / "half.mp4"
    half.write_bytes(clip.read_bytes()[: clip.stat().st_size // 2])
    found = said(half)
    assert len(found.splitlines()) == 1 and found.startswith("spinn run: "), found
    assert not any(word in found for word in WORDS_OF_FFMPEG)
