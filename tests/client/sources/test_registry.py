"""What a text means as a source."""

from __future__ import annotations

from pathlib import Path

import pytest

from spinn_client.sources.base import Picture, Source
from spinn_client.sources.folder import PictureFiles
from spinn_client.sources.registry import KINDS, SourceKind, kind_of, open_source, register
from spinn_stream.errors import SourceError

from .clips import write_clip


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("0", "camera"),
        ("20240501123000", "camera"),
        ("/dev/null", "device"),
        ("rtsp://host/cam", "stream"),
        ("HTTP://host/cam", "stream"),
        ("demo", "demo"),
        (".", "folder"),
        (__file__, "clip"),
        ("nowhere.mp4", None),
        ("", None),
        ("٣", None),
        ("x" * 5000, None),
        ("a\0b", None),
    ],
)
def test_a_text_means_one_kind_of_source_or_none(text: str, kind: str | None) -> None:
    found = kind_of(text)
    assert (found and found.name) == kind


@pytest.mark.parametrize("name", ["20240501123000", "0", "demo", "http:x", "-"])
def test_what_is_there_wins_over_every_other_meaning(here: Path, name: str) -> None:
    write_clip(here / "clip.avi", 3).rename(here / name)
    source = open_source(name)
    assert source.name == name and len(list(source.pictures())) == 3


def test_a_picture_is_one_by_its_ending(here: Path) -> None:
    (here / "a.PNG").write_bytes(b"")
    assert isinstance(open_source("a.PNG"), PictureFiles)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("nowhere.mp4", "no file 'nowhere.mp4'; expected a video file"),
        ("", "no file ''"),
        ("a\nb", r"no file 'a\\nb'"),
        ("\udcff", r"no file '\\udcff'"),
        ("20240501123000", "no file 20240501123000, and no camera: expected a camera's number from 0 to 99"),
        ("ftp://me:secret@host/x", r"no file 'ftp://me:\*\*\*@host/x'"),
    ],
)
def test_what_is_not_there_is_one_line(text: str, said: str) -> None:
    with pytest.raises(SourceError, match=said) as error:
        open_source(text)
    assert "\n" not in str(error.value) and "secret" not in str(error.value)


def test_what_is_neither_a_file_nor_a_folder_is_one_line(tmp_path: Path) -> None:
    import os

    os.mkfifo(tmp_path / "pipe.mp4")
    with pytest.raises(SourceError, match=r"pipe\.mp4' is not a file; expected"):
        open_source(str(tmp_path / "pipe.mp4"))


class Mine:
    name, live, fps = "mine", False, None

    def pictures(self):  # type: ignore[no-untyped-def]
        yield Picture


def open_mine(text: str) -> Source:
    return Mine()  # type: ignore[no-untyped-call, abstract]


def test_a_kind_is_one_registration() -> None:
    register(SourceKind("mine", lambda text: text.startswith("mine:"), f"{__name__}:open_mine"))
    try:
        assert open_source("mine:7").name == "mine"
    finally:
        del KINDS["mine"]
