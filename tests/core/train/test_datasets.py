"""Labelled images: what is read, what is skipped and counted, what is refused and in which words."""

from __future__ import annotations

import json
import struct
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from spinn_stream.errors import ConfigError, DataError
from spinn_stream.frame import crop
from spinn_stream.train.data import decoding
from spinn_stream.train.data.datasets import Skipped, are_labelled, load_dataset, load_pictures
from spinn_stream.train.data.sources import CHUNK

SIDE = 16
RED, BLUE = (200, 10, 10), (10, 10, 200)  # RGB


def encoded(
    colour: tuple[int, int, int] = RED,
    *,
    size: tuple[int, int] = (8, 8),
    kind: str = ".png",
    options: Sequence[int] = (),
) -> bytes:
    """One plain picture, size as (height, width)."""
    picture = np.empty((*size, 3), np.uint8)
    picture[:] = colour[::-1]  # OpenCV writes BGR
    return cv2.imencode(kind, picture, list(options))[1].tobytes()


GOOD = encoded()


def parquet(
    path: Path,
    image: Any,
    label: Any,
    *,
    features: dict[str, Any] | None = None,
    columns: Sequence[str] = ("image", "label"),
) -> Path:
    """A parquet file of two columns; features: as Hugging Face's `datasets` describes them in the schema."""
    table = pa.table(dict(zip(columns, (image, label), strict=True)))
    if features is not None:
        table = table.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(table, path)
    return path


def folder(root: Path, **classes: dict[str, bytes]) -> Path:
    """A folder with a subfolder for each class."""
    for name, files in classes.items():
        (root / name).mkdir(parents=True)
        for file, data in files.items():
            (root / name / file).parent.mkdir(parents=True, exist_ok=True)
            (root / name / file).write_bytes(data)
    return root


def many(count: int = 20) -> dict[str, bytes]:
    return {f"{i:02}.png": GOOD for i in range(count)}


# -- parquet ---------------------------------------------------------------------------------------------------


def test_a_parquet_file_of_bytes_and_numbers_is_read_in_order(tmp_path: Path) -> None:
    path = parquet(tmp_path / "a.parquet", [encoded(RED), encoded(BLUE), encoded(RED)], pa.array([2, 0, 1], pa.int16()))
    data = load_dataset([path], side=SIDE)
    assert data.images.pixels.shape == (3, 8, 8, 3) and data.images.pixels.dtype == np.uint8
    assert data.images.pixels[:, 3, 3].tolist() == [list(RED), list(BLUE), list(RED)]
    assert data.images.labels.tolist() == [2, 0, 1] and data.images.labels.dtype == np.int64
    assert data.classes == ("0", "1", "2") and data.empty_classes == ()
    assert data.skipped == () and data.skipped_total == 0


def test_hugging_face_files_are_read_with_the_names_in_their_schema(tmp_path: Path) -> None:
    """As `datasets.Dataset.to_parquet` writes them: a struct of bytes and path, a ClassLabel feature."""
    features = {"img": {"_type": "Image"}, "labels": {"_type": "ClassLabel", "names": ["cat", "dog", "eel"]}}
    images = [{"bytes": GOOD, "path": "1.png"}, {"bytes": GOOD, "path": None}]
    path = parquet(tmp_path / "a.parquet", images, [2, 0], features=features, columns=("img", "labels"))
    (tmp_path / "classes.json").write_text('["of", "something", "else"]')
    data = load_dataset([path], side=SIDE)
    assert data.classes == ("cat", "dog", "eel") and data.images.labels.tolist() == [2, 0]
    assert data.empty_classes == ("dog",)


@pytest.mark.parametrize("listed", [["cat", "dog"], [{"name": "cat", "id": 7}, {"name": "dog"}]])
def test_a_list_of_classes_beside_the_file_names_the_numbers(tmp_path: Path, listed: list[Any]) -> None:
    (tmp_path / "classes.json").write_text(json.dumps(listed))
    data = load_dataset([parquet(tmp_path / "a.parquet", [GOOD], [1])], side=SIDE)
    assert data.classes == ("cat", "dog") and data.images.labels.tolist() == [1]


@pytest.mark.parametrize("text", ["[", "[]", '{"cat": 0}', "[1, 2]", '[{"id": 1}]'])
def test_a_list_of_classes_in_another_form_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "classes.json").write_text(text)
    with pytest.raises(DataError, match=r'classes\.json: expected a JSON list of names, or of objects with "name"'):
        load_dataset([parquet(tmp_path / "a.parquet", [GOOD], [1])], side=SIDE)


@pytest.mark.parametrize("kind", [pa.string(), pa.large_string(), pa.dictionary(pa.int8(), pa.string())])
def test_labels_that_are_names_become_sorted_classes(tmp_path: Path, kind: pa.DataType) -> None:
    labels = pa.array(["eel", "cat", "eel"], kind)
    path = parquet(tmp_path / "a.parquet", [GOOD] * 3, labels)
    data = load_dataset([path], side=SIDE)
    assert data.classes == ("cat", "eel") and data.images.labels.tolist() == [1, 0, 1]
    (tmp_path / "classes.json").write_text('["eel", "dog", "cat"]')  # a list beside the file gives another order
    assert load_dataset([path], side=SIDE).images.labels.tolist() == [0, 2, 0]


def test_a_folder_of_parquet_files_is_read_whole(tmp_path: Path) -> None:
    parquet(tmp_path / "train-0.parquet", [encoded(RED)], [0])
    parquet(tmp_path / "train-1.parquet", [encoded(BLUE)], [1])
    data = load_dataset([tmp_path], side=SIDE)
    assert data.images.pixels[:, 0, 0].tolist() == [list(RED), list(BLUE)]


def test_a_folder_of_several_splits_is_not_mixed_by_accident(tmp_path: Path) -> None:
    for number in range(4):
        parquet(tmp_path / f"train-{number}.parquet", [GOOD], [0])
    parquet(tmp_path / "validation.parquet", [GOOD], [0])
    shards = r"train-0\.parquet, train-1\.parquet, train-2\.parquet, \.\.\. 4 in all; validation\.parquet"
    said = rf"holds files of several splits \({shards}\); pass the files that are wanted"
    with pytest.raises(ConfigError, match=said):
        load_dataset([tmp_path], side=SIDE)
    assert len(load_dataset([tmp_path / "train-0.parquet"], side=SIDE).images) == 1


def test_files_of_one_folder_agree_in_their_columns(tmp_path: Path) -> None:
    parquet(tmp_path / "a.parquet", [GOOD], [0])
    parquet(tmp_path / "b.parquet", [GOOD], ["cat"])
    with pytest.raises(DataError, match=r"b\.parquet has image / label / name, a\.parquet .* image / label / number"):
        load_dataset([tmp_path], side=SIDE)


def test_a_file_is_not_counted_twice(tmp_path: Path) -> None:
    path = parquet(tmp_path / "a.parquet", [GOOD], [0])
    with pytest.raises(ConfigError, match=r"a\.parquet was given 2 times"):
        load_dataset([tmp_path, path], side=SIDE)


@pytest.mark.parametrize(
    ("columns", "said"),
    [
        ({"picture": [GOOD], "label": [0]}, r"no image bytes column; found \['picture', 'label'\].*'image', 'img'"),
        ({"image": [GOOD], "fine": [0]}, r"no label column; found \['image', 'fine'\], expected one of \['label'"),
        ({"image": [[1, 2]], "label": [0]}, r"column image is list<.*>, expected encoded images: binary or struct"),
        ({"image": [GOOD], "label": [0.5]}, r"column label is double, expected whole numbers or names"),
    ],
)
def test_columns_that_do_not_fit_are_named(tmp_path: Path, columns: dict[str, Any], said: str) -> None:
    pq.write_table(pa.table(columns), tmp_path / "a.parquet")
    with pytest.raises(DataError, match=r"a\.parquet: " + said):
        load_dataset([tmp_path / "a.parquet"], side=SIDE)


def test_a_damaged_parquet_file_is_named(tmp_path: Path) -> None:
    whole = parquet(tmp_path / "a.parquet", [GOOD] * 50, [0] * 50).read_bytes()
    cut = tmp_path / "cut.parquet"
    cut.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DataError, match=r"cut\.parquet: not a parquet file, or a damaged one \("):
        load_dataset([tmp_path / "a.parquet", cut], side=SIDE)


def test_a_parquet_file_damaged_within_is_named(tmp_path: Path) -> None:
    """The footer is whole, so that only reading the images finds out."""
    path = tmp_path / "a.parquet"
    table = pa.table({"image": [np.random.default_rng(i).bytes(500) for i in range(50)], "label": [0] * 50})
    pq.write_table(table, path, compression="zstd", use_dictionary=False)
    data = bytearray(path.read_bytes())
    data[4:24] = b"\xff" * 20  # the first page's header
    path.write_bytes(data)
    with pytest.raises(DataError, match=r"a\.parquet: not a parquet file, or a damaged one \("):
        load_dataset([path], side=SIDE)


# -- folders ---------------------------------------------------------------------------------------------------


def test_a_folder_of_classes_is_read_at_any_depth_in_every_format(tmp_path: Path) -> None:
    root = folder(
        tmp_path / "pets",
        dog={"b/deep/1.PNG": GOOD, "2.jpg": encoded(kind=".jpg"), "notes.txt": b"no image"},
        cat={"1.webp": encoded(kind=".webp"), "2.bmp": encoded(kind=".bmp"), "3.JPEG": encoded(kind=".jpg")},
        ant={".hidden.png": b"junk", ".thumbnails/1.png": GOOD},
    )
    data = load_dataset([root], side=SIDE)
    assert data.classes == ("ant", "cat", "dog") and data.images.labels.tolist() == [1, 1, 1, 2, 2]
    assert data.empty_classes == ("ant",) and data.skipped_total == 0
    assert np.abs(data.images.pixels.astype(int) - RED).max() < 12  # JPEG and WebP lose a little


def test_images_beside_the_class_folders_are_skipped_and_counted(tmp_path: Path) -> None:
    root = folder(tmp_path / "pets", cat=many())
    (root / "cover.jpg").write_bytes(GOOD)
    data = load_dataset([root], side=SIDE)
    assert len(data.images) == 20
    assert data.skipped == (Skipped("pets/cover.jpg", "lies beside the class folders, not in one"),)


def test_folders_and_files_of_any_kind_mix(tmp_path: Path) -> None:
    root = folder(tmp_path / "pets", dog={"1.png": encoded(RED)}, cat={"1.png": encoded(BLUE)})
    path = parquet(tmp_path / "a.parquet", [GOOD, GOOD], ["eel", "cat"])
    data = load_dataset([path, root], side=SIDE)
    assert data.classes == ("cat", "dog", "eel")
    assert data.images.labels.tolist() == [2, 0, 0, 1]  # the file's two, then the folder's


def test_names_and_bare_numbers_do_not_mix(tmp_path: Path) -> None:
    root = folder(tmp_path / "pets", cat=many(1))
    path = parquet(tmp_path / "a.parquet", [GOOD], [0])
    with pytest.raises(ConfigError, match=r"a\.parquet are numbers, those of .*pets are names; put a classes\.json"):
        load_dataset([path, root], side=SIDE)
    (tmp_path / "classes.json").write_text('["dog", "cat"]')
    assert load_dataset([path, root], side=SIDE).images.labels.tolist() == [0, 1]


def test_folders_that_cannot_be_meant_are_refused(tmp_path: Path) -> None:
    splits = folder(tmp_path / "splits", train=many(1), val=many(1))
    with pytest.raises(ConfigError, match=r"subfolders are splits \(train, val\), not classes; pass the one wanted"):
        load_dataset([splits], side=SIDE)
    both = folder(tmp_path / "both", cat=many(1))
    parquet(both / "a.parquet", [GOOD], [0])
    with pytest.raises(ConfigError, match="holds parquet files and folders of images"):
        load_dataset([both], side=SIDE)
    parquet(tmp_path / "hub" / "data" / "a.parquet", [GOOD], [0])
    with pytest.raises(DataError, match=r"hub/data holds parquet files, pass that folder"):
        load_dataset([tmp_path / "hub"], side=SIDE)
    with pytest.raises(ConfigError, match=r"gone: no such file or folder; expected a parquet file, a folder of them"):
        load_dataset([tmp_path / "gone"], side=SIDE)
    with pytest.raises(ConfigError, match="got 0 paths"):
        load_dataset([], side=SIDE)


def test_no_images_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"pets: no images in subfolders, .*\(\.bmp, \.jpeg, \.jpg, \.png, \.webp\)"):
        load_dataset([folder(tmp_path / "pets", cat={"a.txt": b""})], side=SIDE)
    empty = parquet(tmp_path / "a.parquet", pa.array([], pa.binary()), pa.array([], pa.int64()))
    with pytest.raises(DataError, match=r"no images in .*a\.parquet"):
        load_dataset([empty], side=SIDE)


# -- classes that are given ------------------------------------------------------------------------------------


def test_given_classes_decide_the_order(tmp_path: Path) -> None:
    classes = ["eel", "dog", "cat"]
    root = folder(tmp_path / "pets", cat=many(1), dog=many(1))
    assert load_dataset([root], side=SIDE, classes=classes).images.labels.tolist() == [2, 1]
    bare = parquet(tmp_path / "bare.parquet", [GOOD, GOOD], [0, 2])
    assert load_dataset([bare], side=SIDE, classes=classes).images.labels.tolist() == [0, 2]
    features = {"label": {"_type": "ClassLabel", "names": ["cat", "dog"]}}  # numbers of another order go by name
    named = parquet(tmp_path / "named.parquet", [GOOD, GOOD], [0, 1], features=features)
    data = load_dataset([named], side=SIDE, classes=classes)
    assert data.images.labels.tolist() == [2, 1] and data.classes == tuple(classes) and data.empty_classes == ("eel",)


def test_a_class_that_is_not_among_the_given_ones_is_named(tmp_path: Path) -> None:
    root = folder(tmp_path / "pets", cat=many(1), yak=many(1))
    with pytest.raises(DataError, match=r'pets/yak/00\.png: class "yak" is not among those expected: cat, dog$'):
        load_dataset([root], side=SIDE, classes=["cat", "dog"])
    path = parquet(tmp_path / "a.parquet", [GOOD] * 3, ["cat", "dog", "yak"])
    with pytest.raises(DataError, match=r'a\.parquet row 2: class "yak" is not among'):
        load_dataset([path], side=SIDE, classes=["cat", "dog"])
    with pytest.raises(DataError, match="two of the 3 classes have one name"):
        load_dataset([path], side=SIDE, classes=["cat", "dog", "dog"])


@pytest.mark.parametrize(
    ("value", "given", "said"),
    [
        (5, ["cat", "dog"], r"row 1: label 5, expected 0 to 1$"),
        (-3, ["cat", "dog"], r"row 1: label -3, expected 0 to 1$"),
        (-1, None, r"row 1: label -1, expected 0 to 0; -1 often marks a test split that has no labels"),
        (4_000_000_000, None, r"row 1: label 4000000000; expected the number of a class, below 100000"),
    ],
)
def test_a_label_out_of_range_is_named_before_anything_is_decoded(
    tmp_path: Path, value: int, given: list[str] | None, said: str
) -> None:
    path = parquet(tmp_path / "a.parquet", [b"junk", b"junk"], [0, value])
    with pytest.raises(DataError, match=r"^a\.parquet " + said):
        load_dataset([path], side=SIDE, classes=given)


def test_a_label_beyond_the_names_that_come_with_the_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "classes.json").write_text('["cat", "dog"]')
    with pytest.raises(DataError, match=r"a\.parquet row 0: label 2, expected 0 to 1"):
        load_dataset([parquet(tmp_path / "a.parquet", [GOOD], [2])], side=SIDE)


def test_files_with_different_lists_of_classes_are_refused(tmp_path: Path) -> None:
    paths = []
    for name in ("cat", "dog"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "classes.json").write_text(json.dumps([name]))
        paths.append(parquet(tmp_path / name / "a.parquet", [GOOD], [0]))
    with pytest.raises(DataError, match="come with different lists of classes"):
        load_dataset(paths, side=SIDE)
    assert load_dataset(paths, side=SIDE, classes=["dog", "cat"]).images.labels.tolist() == [1, 0]


# -- skips -----------------------------------------------------------------------------------------------------


def test_images_and_labels_that_are_missing_or_damaged_are_skipped_and_counted(tmp_path: Path) -> None:
    images: list[bytes | None] = [GOOD] * 60
    labels: list[int | None] = list(range(60))
    images[3], images[7], images[20], labels[30] = b"x" * 312, None, GOOD[: len(GOOD) // 2], None
    data = load_dataset([parquet(tmp_path / "train-0.parquet", images, labels)], side=SIDE)
    assert data.images.labels.tolist() == [i for i in range(60) if i not in {3, 7, 20, 30}]
    assert len(data.images.pixels) == 56 and (data.images.pixels == RED).all()
    assert data.skipped_total == 4 and data.skipped == (
        Skipped("train-0.parquet row 3", "does not decode as an image (got 312 bytes)"),
        Skipped("train-0.parquet row 7", "holds no image bytes"),
        Skipped("train-0.parquet row 20", f"does not decode as an image (got {len(GOOD) // 2} bytes)"),
        Skipped("train-0.parquet row 30", "has no label"),
    )


def test_an_image_file_that_is_damaged_or_empty_is_skipped_and_counted(tmp_path: Path) -> None:
    root = folder(tmp_path / "pets", cat={**many(), "x.jpg": b"\xff\xd8junk", "y.png": b""})
    data = load_dataset([root], side=SIDE)
    assert len(data.images) == 20 and data.skipped == (
        Skipped("pets/cat/x.jpg", "does not decode as an image (got 6 bytes)"),
        Skipped("pets/cat/y.png", "holds no image bytes"),
    )


def test_a_path_without_bytes_is_a_skip(tmp_path: Path) -> None:
    images = [{"bytes": GOOD, "path": "a"}] * 20 + [{"bytes": None, "path": "elsewhere.png"}, None]
    data = load_dataset([parquet(tmp_path / "a.parquet", images, [0] * 22)], side=SIDE)
    assert [s.why for s in data.skipped] == ["holds no image bytes"] * 2


def test_only_the_first_skips_are_kept_but_all_are_counted(tmp_path: Path) -> None:
    path = parquet(tmp_path / "a.parquet", [b"junk"] * 25 + [GOOD] * 225, [0] * 250)  # a tenth: just allowed
    data = load_dataset([path], side=SIDE)
    assert data.skipped_total == 25 and len(data.skipped) == 20 and len(data.images) == 225


def test_more_than_a_tenth_skipped_is_an_error(tmp_path: Path) -> None:
    path = parquet(tmp_path / "a.parquet", [b"junk"] * 26 + [GOOD] * 224, [0] * 250)
    said = r"26 of 250 images cannot be used, more than 10%, so reading stopped: a\.parquet row 0 does not decode"
    with pytest.raises(DataError, match=said):
        load_dataset([path], side=SIDE)


def huge(kind: str) -> bytes:
    """A small file whose header announces 60000 x 40000 pixels (WebP: 16384 x 16384, its most)."""
    if kind == "png":
        header = struct.pack(">IIBBBBB", 60000, 40000, 8, 2, 0, 0, 0)
        chunks = [(b"IHDR", header), (b"IDAT", zlib.compress(bytes(100))), (b"IEND", b"")]
        return b"\x89PNG\r\n\x1a\n" + b"".join(
            struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))
            for name, body in chunks
        )
    if kind == "jpg":
        data = bytearray(encoded(kind=".jpg"))
        at = data.index(b"\xff\xc0")
        data[at + 5 : at + 9] = struct.pack(">HH", 40000, 60000)
    elif kind == "bmp":
        data = bytearray(encoded(kind=".bmp"))
        data[18:26] = struct.pack("<ii", 60000, -40000)  # negative: from the top down
    elif kind == "webp-lossless":
        data = bytearray(encoded(kind=".webp", options=[cv2.IMWRITE_WEBP_QUALITY, 101]))
        assert data[12:16] == b"VP8L"
        data[21:25] = struct.pack("<I", 16383 | 16383 << 14)
    elif kind == "webp-lossy":
        body = b"\x10\x02\x00\x9d\x01\x2a" + struct.pack("<HH", 16383, 16383) + bytes(100)
        data = bytearray(
            b"RIFF" + struct.pack("<I", len(body) + 12) + b"WEBPVP8 " + struct.pack("<I", len(body)) + body
        )
    else:
        body = bytes(4) + (16383).to_bytes(3, "little") * 2
        data = bytearray(b"RIFF" + struct.pack("<I", 1000) + b"WEBPVP8X" + struct.pack("<I", 10) + body + bytes(900))
    return bytes(data)


@pytest.mark.parametrize("kind", ["png", "jpg", "bmp", "webp-lossless", "webp-lossy", "webp-extended"])
def test_an_image_that_announces_too_many_pixels_is_skipped_undecoded(
    tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = parquet(tmp_path / "a.parquet", [GOOD] * 10 + [huge(kind)], [0] * 11)
    decoded: list[int] = []
    decode = cv2.imdecode

    def watched(data: Any, flags: int) -> Any:
        decoded.append(data.size)
        return decode(data, flags)

    monkeypatch.setattr(cv2, "imdecode", watched)
    (skip,) = load_dataset([path], side=SIDE).skipped
    size = {"webp-lossy": "16383x16383", "webp-lossless": "16384x16384", "webp-extended": "16384x16384"}
    assert skip == Skipped("a.parquet row 10", f"is {size.get(kind, '60000x40000')}, more than 100 megapixels")
    assert decoded == [len(GOOD)] * 10


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        (".png", []), (".bmp", []), (".jpg", []), (".jpg", [cv2.IMWRITE_JPEG_PROGRESSIVE, 1]), (".webp", []),
        (".webp", [cv2.IMWRITE_WEBP_QUALITY, 50]),
    ],
)  # fmt: skip
def test_announced_sizes_are_those_of_real_files(kind: str, options: list[int]) -> None:
    assert decoding.announced_size(encoded(size=(30, 70), kind=kind, options=options)) == (70, 30)


def test_a_format_whose_header_is_not_known_is_measured_once_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decoding, "MAX_PIXELS", 2_000_000)
    got = decoding.decode_square(encoded(size=(1500, 1500), kind=".tiff"), SIDE)
    assert got == "is 1500x1500, more than 2 megapixels"


# -- pictures --------------------------------------------------------------------------------------------------


def test_square_images_of_one_small_size_stay_as_they_are(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (12, 12, 3), np.uint8)
    data = cv2.imencode(".png", noise)[1].tobytes()
    images = load_dataset([parquet(tmp_path / "a.parquet", [data], [0])], side=12).images
    assert (images.pixels[0] == noise[..., ::-1]).all()


@pytest.mark.parametrize("sizes", [[(8, 8), (40, 30)], [(40, 30), (8, 8)], [(8, 8), (9, 9)], [(40, 40), (40, 40)]])
def test_images_of_other_sizes_become_what_a_camera_frame_becomes(tmp_path: Path, sizes: list[tuple[int, int]]) -> None:
    frames = [np.random.default_rng(i).integers(0, 256, (*size, 3), np.uint8) for i, size in enumerate(sizes)]
    frames += frames  # more after the change of size
    rows = [cv2.imencode(".png", frame)[1].tobytes() for frame in frames]
    images = load_dataset([parquet(tmp_path / "a.parquet", rows, [0] * len(rows))], side=SIDE).images
    assert images.pixels.shape == (len(frames), SIDE, SIDE, 3)
    for pixels, frame in zip(images.pixels, frames, strict=True):
        assert (pixels == crop(frame, SIDE)).all()


def test_grey_deep_and_transparent_images_become_rgb(tmp_path: Path) -> None:
    grey = np.full((8, 8), 77, np.uint8)
    deep = np.full((8, 8, 3), (10 << 8, 20 << 8, 30 << 8), np.uint16)
    clear = np.full((8, 8, 4), (10, 20, 30, 5), np.uint8)
    rows = [cv2.imencode(".png", picture)[1].tobytes() for picture in (grey, deep, clear)]
    pixels = load_dataset([parquet(tmp_path / "a.parquet", rows, [0, 0, 0])], side=SIDE).images.pixels
    assert pixels[:, 0, 0].tolist() == [[77, 77, 77], [30, 20, 10], [30, 20, 10]]


def test_a_photograph_is_turned_as_its_camera_was(tmp_path: Path) -> None:
    picture = np.zeros((16, 16, 3), np.uint8)
    picture[:, :8] = 255  # the left half is white
    plain = cv2.imencode(".jpg", picture)[1].tobytes()
    tiff = b"II*\x00" + struct.pack("<IHHHIHHI", 8, 1, 0x0112, 3, 1, 6, 0, 0)  # orientation 6: turn right by 90 degrees
    exif = b"Exif\x00\x00" + tiff
    turned = plain[:2] + b"\xff\xe1" + struct.pack(">H", len(exif) + 2) + exif + plain[2:]
    pixels = load_dataset([parquet(tmp_path / "a.parquet", [plain, turned], [0, 0])], side=SIDE).images.pixels
    assert pixels[0, 8, 2].min() > 240 and pixels[0, 8, 13].max() < 15
    assert pixels[1, 2, 8].min() > 240 and pixels[1, 13, 8].max() < 15  # what was left is up


def test_more_images_than_memory_holds_are_refused_with_numbers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert 10_000_000 < decoding.free_memory_bytes() < 1 << 50
    monkeypatch.setattr(decoding, "free_memory_bytes", lambda: 50_000_000)
    path = parquet(tmp_path / "a.parquet", [encoded(size=(1000, 1000))] * 20, [0] * 20)
    said = (
        r"20 images of 1000x1000 take 0\.06 GB of memory, 0\.05 GB are free; pass fewer"  # 20 * 1000 * 1000 * 3 bytes
    )
    with pytest.raises(DataError, match=said):
        load_dataset([path], side=1000)
    assert len(load_dataset([path], side=SIDE).images) == 20


def test_progress_counts_every_image_up_to_all(tmp_path: Path) -> None:
    path = parquet(tmp_path / "a.parquet", [GOOD] * 149 + [b"junk"], [0] * 150)
    seen: list[tuple[int, int]] = []
    load_dataset([path], side=SIDE, progress=lambda done, total: seen.append((done, total)))
    assert seen == [(CHUNK, 150), (2 * CHUNK, 150), (150, 150)]


def test_images_without_labels_are_read_from_parquet_and_from_folders_of_any_depth(tmp_path: Path) -> None:
    table = tmp_path / "pool.parquet"
    pq.write_table(
        pa.table({"image": [GOOD, b"junk", *[encoded(BLUE)] * 30], "source": ["a", "b", *["c"] * 30]}), table
    )
    heap = tmp_path / "heap"
    for name in ("one.png", "deeper/two.png", "deeper/still/three.png", ".thumbnails/four.png"):
        (heap / name).parent.mkdir(parents=True, exist_ok=True)
        (heap / name).write_bytes(GOOD)
    assert not are_labelled([table])
    found = load_pictures([table, heap], side=SIDE)
    assert found.classes == () and found.empty_classes == () and len(found.images) == 31 + 3
    assert not found.images.labels.any()
    assert found.skipped == (Skipped("pool.parquet row 1", "does not decode as an image (got 4 bytes)"),)


def test_labels_are_not_looked_at_where_none_are_asked_for(tmp_path: Path) -> None:
    table = parquet(tmp_path / "a.parquet", [GOOD] * 3, [7, -1, None])
    assert are_labelled([table])
    assert len(load_pictures([table], side=SIDE).images) == 3


def test_a_folder_is_labelled_if_its_subfolders_hold_images(tmp_path: Path) -> None:
    (tmp_path / "plain").mkdir()
    (tmp_path / "plain" / "1.png").write_bytes(GOOD)
    assert are_labelled([tmp_path]) and not are_labelled([tmp_path / "plain"])
    assert not are_labelled([tmp_path, tmp_path / "plain"])
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match=r"no images, expected some of \.bmp"):
        load_pictures([tmp_path / "empty"], side=SIDE)
    with pytest.raises(ConfigError, match="no such file or folder"):
        are_labelled([tmp_path / "nowhere"])
