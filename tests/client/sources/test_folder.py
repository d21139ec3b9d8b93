"""Pictures in files."""

from __future__ import annotations

import os
from pathlib import Path

import cv2
import numpy as np
import pytest

from spinn_client.sources.base import Picture, Unusable, pixels_of
from spinn_client.sources.registry import open_source
from spinn_stream.errors import SourceError

from .clips import quarters


def write_grey(path: Path, level: int) -> None:
    assert cv2.imwrite(str(path), np.full((8, 12, 3), level, np.uint8))


def test_pictures_are_played_in_the_order_in_which_people_count_and_again(tmp_path: Path) -> None:
    for level, name in ((10, "f2.png"), (0, "f1.PNG"), (30, "f12.bmp"), (20, "f10.tif")):
        write_grey(tmp_path / name, level)
    (tmp_path / "notes.txt").write_text("no image")
    (tmp_path / "more").mkdir()
    write_grey(tmp_path / "more" / "e.png", 40)
    source = open_source(str(tmp_path))
    assert source.name == str(tmp_path) and not source.live
    for _ in range(2):
        assert [pixels.mean() for pixels in pixels_of(source)] == [0, 10, 20, 30]
    assert [p.origin for p in source.pictures()] == ["f1.PNG", "f2.png", "f10.tif", "f12.bmp"]
    source.close()


def test_pictures_have_no_rate_as_they_are_no_clip(tmp_path: Path) -> None:
    write_grey(tmp_path / "a.png", 1)
    assert open_source(str(tmp_path)).fps is None and open_source(str(tmp_path / "a.png")).fps is None


@pytest.mark.parametrize("extension", ["png", "jpg", "webp", "bmp", "tif", "tiff", "gif", "jp2", "ppm"])
def test_a_picture_is_the_same_alone_and_in_a_folder(tmp_path: Path, extension: str) -> None:
    file = tmp_path / f"a.{extension}"
    if not cv2.imwrite(str(file), quarters()):
        pytest.skip(f"OpenCV does not write .{extension} here")
    [alone], [among] = pixels_of(open_source(str(file))), pixels_of(open_source(str(tmp_path)))
    assert np.array_equal(alone, among)


def test_files_that_begin_with_a_dot_are_skipped(tmp_path: Path) -> None:
    write_grey(tmp_path / "a.png", 5)
    (tmp_path / "._a.png").write_bytes(b"\0\5\x16\7 a note of another system")
    assert [type(p) for p in open_source(str(tmp_path)).pictures()] == [Picture]


@pytest.mark.parametrize("content", [b"", b"not an image", b"\x89PNG\r\n\x1a\n"])
def test_a_picture_that_cannot_be_read_is_named_and_the_next_is_played(tmp_path: Path, content: bytes) -> None:
    write_grey(tmp_path / "a.png", 5)
    (tmp_path / "b.jpg").write_bytes(content)
    write_grey(tmp_path / "c.png", 7)
    _, broken, last = open_source(str(tmp_path)).pictures()
    assert isinstance(broken, Unusable) and broken.origin == "b.jpg" and broken.why.startswith("b.jpg is ")
    assert isinstance(last, Picture) and last.pixels.mean() == 7


@pytest.mark.parametrize("extension", ["png", "jpg", "webp", "tif", "gif", "bmp"])
def test_half_a_picture_is_none(tmp_path: Path, capfd: pytest.CaptureFixture[str], extension: str) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (60, 80, 3), np.uint8)
    whole = cv2.imencode(f".{extension}", noise)[1].tobytes()
    (tmp_path / f"a.{extension}").write_bytes(whole[: len(whole) // 2])
    [found] = open_source(str(tmp_path)).pictures()
    assert isinstance(found, Unusable)
    assert "libpng" not in capfd.readouterr().err


def test_a_file_that_is_gone_or_leads_nowhere_is_named(tmp_path: Path) -> None:
    write_grey(tmp_path / "a.png", 5)
    (tmp_path / "b.png").symlink_to("nowhere")
    source = open_source(str(tmp_path))
    (tmp_path / "a.png").unlink()
    whys = [p.why for p in source.pictures() if isinstance(p, Unusable)]
    assert whys == ["cannot read a.png: No such file or directory", "cannot read b.png: No such file or directory"]


def test_a_folder_without_pictures_is_told(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="no image in "):
        open_source(str(tmp_path))


def test_those_who_need_every_picture_are_told_of_the_first_that_is_missing(tmp_path: Path) -> None:
    (tmp_path / "1.png").write_bytes(b"no image")
    with pytest.raises(SourceError, match=r"1\.png is not a picture"):
        list(pixels_of(open_source(str(tmp_path))))


@pytest.mark.parametrize("name", [b"new\nline.png", b"\xff\xfe.png", b"-i.png", b"f%d.png", b"[x].png", b"a:b.png"])
def test_a_picture_of_any_name_is_played(tmp_path: Path, name: bytes) -> None:
    (tmp_path / os.fsdecode(name)).write_bytes(cv2.imencode(".png", quarters())[1].tobytes())
    for source in (open_source(str(tmp_path)), open_source(str(tmp_path / os.fsdecode(name)))):
        [picture] = source.pictures()
        assert isinstance(picture, Picture) and np.array_equal(picture.pixels, quarters())
        assert picture.origin is not None and picture.origin.encode() and source.name.isprintable()
