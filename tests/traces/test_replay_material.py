"""What is played: clips, and labelled images laid out as frames."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from spinn_client.sources.base import pixels_of
from spinn_client.sources.registry import open_source
from spinn_stream.bundle import Bundle
from spinn_stream.errors import ConfigError, DataError
from spinn_stream.runtime import Engine
from spinn_traces.replay.run.material import Material, prepare
from spinn_traces.replay.run.reference import whole_network


def png(level: int) -> bytes:
    return bytes(cv2.imencode(".png", np.full((8, 8, 3), level, np.uint8))[1])


def parquet(path: Path, labels: list[int], images: list[bytes] | None = None) -> Path:
    images = images or [png(label) for label in labels]
    pq.write_table(pa.table({"image": pa.array(images, pa.binary()), "label": pa.array(labels, pa.int16())}), path)
    return path


def levels(folder: Path) -> list[int]:
    return [int(frame.mean()) for frame in pixels_of(open_source(str(folder)))]


def test_images_of_a_parquet_file_become_frames_in_a_shuffled_order_with_their_labels(
    bundle: Bundle, tmp_path: Path
) -> None:
    source = parquet(tmp_path / "val.parquet", list(range(50)))
    made = prepare(str(source), bundle, tmp_path / "frames", count=20, seed=3)
    assert made.truth is not None and made.name == "val.parquet"
    shown = levels(tmp_path / "frames")  # an image is as light as the number of its label
    assert len(shown) == 20 and [bundle.labels[level] for level in shown] == list(made.truth)
    assert shown != sorted(shown) and len(set(shown)) == 20
    again = prepare(str(source), bundle, tmp_path / "frames", count=20, seed=3)
    other = prepare(str(source), bundle, tmp_path / "frames", count=20, seed=4)
    assert again == made and other.content != made.content
    few = prepare(str(source), bundle, tmp_path / "frames", count=500, seed=3)
    assert few.truth is not None and len(few.truth) == 50 == len(levels(tmp_path / "frames"))  # no frame of before


def test_an_image_keeps_its_bytes(bundle: Bundle, tmp_path: Path) -> None:
    done, jpeg = cv2.imencode(".jpg", np.full((8, 8, 3), 7, np.uint8))
    assert done
    source = parquet(tmp_path / "one.parquet", [5], [jpeg.tobytes()])
    prepare(str(source), bundle, tmp_path / "frames", count=9, seed=0)
    (file,) = (tmp_path / "frames").iterdir()
    assert file.suffix == ".jpg" and file.read_bytes() == jpeg.tobytes()


def test_folders_of_classes_go_by_label_number_or_wordnet_id(bundle: Bundle, tmp_path: Path) -> None:
    names = {bundle.labels[3]: 3, "7": 7, bundle.labels[0].upper().replace(" ", "_"): 0, "n00000001": 11}
    for name, level in names.items():
        (tmp_path / "set" / name).mkdir(parents=True)
        (tmp_path / "set" / name / "a.png").write_bytes(png(level))
    (tmp_path / "classes.json").write_text(json.dumps([{"wnid": "n00000001", "name": bundle.labels[11]}]))
    made = prepare(str(tmp_path / "set"), bundle, tmp_path / "frames", count=9, seed=0)
    assert made.truth == tuple(bundle.labels[level] for level in levels(tmp_path / "frames"))
    assert sorted(levels(tmp_path / "frames")) == [0, 3, 7, 11]


def test_a_flat_folder_a_clip_and_the_demo_have_no_truth(bundle: Bundle, tmp_path: Path) -> None:
    (tmp_path / "flat").mkdir()
    (tmp_path / "flat" / "a.png").write_bytes(png(9))
    flat = prepare(str(tmp_path / "flat"), bundle, tmp_path / "frames", count=9, seed=0)
    assert flat.truth is None and flat.source == str(tmp_path / "flat")
    assert prepare("demo", bundle, tmp_path / "frames", count=9, seed=0) == Material("demo", "demo", "demo")
    assert not (tmp_path / "frames").exists()


def test_what_cannot_be_played_is_told_in_one_line(bundle: Bundle, tmp_path: Path) -> None:
    pq.write_table(pa.table({"picture": pa.array([b""])}), tmp_path / "columns.parquet")
    parquet(tmp_path / "label.parquet", [3, 200])
    parquet(tmp_path / "image.parquet", [3], [b"no image"])
    (tmp_path / "set" / "unicorn").mkdir(parents=True)
    (tmp_path / "set" / "unicorn" / "a.png").write_bytes(png(1))
    (tmp_path / "empty").mkdir()
    for name, kind, said in (
        ("columns.parquet", DataError, "no image bytes column; found"),
        ("label.parquet", DataError, "label.parquet row 1: label 200, expected 0 to 199"),
        ("image.parquet", DataError, "image.parquet row 0: does not decode as an image"),
        ("set", DataError, "class 'unicorn' is not in bundle lite2-200; expected one of its 200 labels"),
        ("empty", DataError, "no images in subfolders"),
        ("nothing", ConfigError, "no such file or folder; expected a clip, demo, "),
    ):
        with pytest.raises(kind, match=said) as error:
            prepare(str(tmp_path / name), bundle, tmp_path / "frames", count=9, seed=0)
        assert "\n" not in str(error.value)
    for live in ("0", "rtsp://camera/1"):
        with pytest.raises(ConfigError, match="is live, and every policy must see the same frames"):
            prepare(live, bundle, tmp_path / "frames", count=9, seed=0)
    with pytest.raises(ConfigError, match="the run needs 300000 frames"):
        prepare(str(tmp_path / "label.parquet"), bundle, tmp_path / "frames", count=300_000, seed=0)


def test_the_whole_network_is_asked_once_for_each_frame(bundle: Bundle, engine: Engine, tmp_path: Path) -> None:
    for at, level in enumerate((20, 220, 120)):
        (tmp_path / f"{at}.png").write_bytes(png(level))
    made = prepare(str(tmp_path), bundle, tmp_path / "frames", count=9, seed=0)
    asked: list[int] = []
    found = whole_network(made, bundle, engine, count=2, kept=tmp_path / "kept.json", progress=asked.append)
    assert asked == [1, 2] and len(found) == 2 and set(found) <= set(bundle.labels)
    again = whole_network(made, bundle, engine, count=2, kept=tmp_path / "kept.json", progress=asked.append)
    assert again == found and asked == [1, 2]
    (tmp_path / "kept.json").write_text("{")
    assert len(whole_network(made, bundle, engine, count=9, kept=tmp_path / "kept.json")) == 3
