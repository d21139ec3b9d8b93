"""A folder of images as a source."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from spinn_client.sources.registry import open_source
from spinn_stream.errors import SourceError


def write_grey(path: Path, level: int) -> None:
    assert cv2.imwrite(str(path), np.full((8, 12, 3), level, np.uint8))


def test_images_are_played_in_the_order_of_their_names_at_30_frames_a_second_and_again(tmp_path: Path) -> None:
    for level, name in ((10, "b.png"), (0, "a.PNG"), (30, "d.bmp"), (20, "c.jpg")):
        write_grey(tmp_path / name, level)
    (tmp_path / "notes.txt").write_text("no image")
    (tmp_path / "more").mkdir()
    write_grey(tmp_path / "more" / "e.png", 40)
    source = open_source(str(tmp_path))
    assert source.fps == 30 and source.name == str(tmp_path)
    for _ in range(2):
        assert [frame.mean() for frame in source.frames()] == pytest.approx([0, 10, 20, 30], abs=1)
    assert next(source.frames()).shape == (8, 12, 3)
    source.close()


def test_a_folder_without_images_is_told(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="no image in "):
        open_source(str(tmp_path))


@pytest.mark.parametrize("content", [b"", b"not an image", b"\x89PNG\r\n\x1a\n"])
def test_an_image_that_cannot_be_read_is_named(tmp_path: Path, content: bytes) -> None:
    write_grey(tmp_path / "0.png", 5)
    (tmp_path / "1.png").write_bytes(content)
    frames = open_source(str(tmp_path)).frames()
    next(frames)
    with pytest.raises(SourceError, match=r"1\.png is not an image"):
        next(frames)
