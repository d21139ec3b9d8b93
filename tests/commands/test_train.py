"""`spinn train` and `spinn evaluate` as a user calls them, and a bundle that runs at once."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest

from spinn_stream.bundle import load_bundle
from spinn_stream.cli.main import call

from ..processes import SPINN, said, server, spinn

TRAIN = ("train", "--backbone", "mobilenet-v2", "--image-size", "64", "--exits", "3", "--batch-size", "4")


@pytest.fixture(scope="module")
def toys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Ten pictures: five red, five blue."""
    folder = tmp_path_factory.mktemp("toys") / "data"
    rng = np.random.default_rng(0)
    for name, channel in (("blue", 0), ("red", 2)):
        (folder / name).mkdir(parents=True)
        for i in range(5):
            picture = rng.integers(0, 50, (70, 90, 3), np.uint8)
            picture[..., channel] += 180
            cv2.imwrite(str(folder / name / f"{i}.png"), picture)
    return folder


@pytest.fixture(scope="module")
def trained(toys: Path) -> Iterator[Path]:
    out = toys.parent / "toy"
    done = spinn(*TRAIN, "--data", str(toys), "--out", str(out), "--epochs", "2", "--held-out", "2", timeout=120)
    assert done.returncode == 0, done.stderr
    assert "10 images of 2 classes" in done.stderr and "exits at" in done.stderr
    yield out


def test_a_bundle_of_ten_images_is_whole(trained: Path) -> None:
    bundle = load_bundle(trained)
    assert bundle.labels == ("blue", "red") and bundle.name == "toy" and len(bundle.exits) == 4
    assert {p.cut for p in bundle.payloads} == set(range(bundle.last))
    assert all(0.05 <= e.temperature <= 20 for e in bundle.exits)
    manifest = json.loads((trained / "manifest.json").read_text())
    assert manifest["provenance"]["images"] == {"training": 8, "held_out": 2, "skipped": 0}
    assert manifest["provenance"]["recipe"]["training"]["seed"] == 1
    assert manifest["provenance"]["command"].startswith("spinn train --backbone mobilenet-v2")
    assert manifest["pruned"] and all(p["reason"] for p in manifest["pruned"])


@pytest.mark.slow
def test_it_runs_in_server_and_client_at_once_where_torch_is_not(trained: Path, toys: Path, tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text("import sys\nsys.modules['torch'] = None\n")
    clip = tmp_path / "clip.avi"
    writer = cv2.VideoWriter(str(clip), cv2.VideoWriter.fourcc(*"MJPG"), 30, (90, 70))
    for i in range(40):
        writer.write(cv2.imread(str(toys / ("blue", "red")[i % 2] / f"{i % 5}.png")))
    writer.release()
    bundle = load_bundle(trained)
    with server("--bundle", str(trained)) as running:
        command = [
            str(SPINN), "run", "--source", str(clip), "--server", running.address, "--bundle", str(trained),
            "--split", str(bundle.last // 2), "--threshold", "none", "--unpaced", "--deadline-ms", "60000",
            "--runtime", "onnxruntime",
            "--jsonl", str(tmp_path / "results"), "--summary", str(tmp_path / "summary"), "--quiet",
        ]  # fmt: skip
        environment = os.environ | {"PYTHONPATH": str(tmp_path)}
        probe = subprocess.run(
            [str(SPINN.parent / "python"), "-c", "import torch"], env=environment, capture_output=True, check=False
        )
        assert probe.returncode != 0  # torch really is away
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    summary = json.loads((tmp_path / "summary").read_text())
    assert summary["final"] == summary["server"] == 40
    labels = {json.loads(line)["label"] for line in (tmp_path / "results").read_text().splitlines()}
    assert labels <= {"blue", "red"}


@pytest.mark.slow
def test_a_training_continues_where_it_was_broken_off_to_the_same_bundle(toys: Path, tmp_path: Path) -> None:
    """Killed after its first checkpoint, the same command ends with the graph that a run in one go makes."""
    options = (*TRAIN, "--data", str(toys), "--epochs", "5", "--held-out", "2", "--threads", "1", "--image-size", "32",
               "--exits", "2", "--checkpoint-every", "4")  # fmt: skip
    for name in ("whole", "broken"):
        command = [str(SPINN), *options, "--out", str(tmp_path / name), "--work", str(tmp_path / f"{name}.work")]
        if name == "broken":
            process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
            checkpoint = tmp_path / "broken.work" / "checkpoint.pt"
            try:
                while process.poll() is None and not checkpoint.exists():
                    time.sleep(0.02)
            finally:
                process.kill()
                process.wait()
            assert not (tmp_path / name).exists(), "it was over before it could be killed"
        done = subprocess.run(command, capture_output=True, text=True, timeout=240, check=False)
        assert done.returncode == 0, done.stderr
    graphs = [(tmp_path / name / "graph.onnx").read_bytes() for name in ("whole", "broken")]
    assert graphs[0] == graphs[1]


def test_evaluate_prints_the_json_that_scripts_read(trained: Path, toys: Path, tmp_path: Path) -> None:
    done = said("evaluate", str(trained), "--data", str(toys), "--json", "--plot", str(tmp_path / "curve.png"))
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found.keys() >= {"final_top1", "exits", "thresholds"} and found["images"] == 10
    assert len(found["exits"]) == 4 and found["exits"][-1]["macs_fraction"] == 1.0
    for row in found["exits"]:
        assert row.keys() >= {"name", "macs_fraction", "top1", "ece"} and 0 <= row["ece"] <= 1
    for row in found["thresholds"]:
        assert sum(row["share"]) == pytest.approx(1) and len(row["share"]) == 4
        assert row["mean_macs_fraction"] > 0 and 0 <= row["accuracy"] <= 1
    picture = cv2.imread(str(tmp_path / "curve.png"))
    assert picture is not None and picture.shape[0] > 200
    data = Path(shutil.copytree(toys, tmp_path / "data"))
    (data / "blue" / "9.png").write_bytes(b"not a picture")
    table = said("evaluate", str(trained), "--data", str(data))
    assert table.returncode == 0 and "calibration error" in table.stdout and "Traceback" not in table.stderr
    assert "1 images skipped, the first: " in table.stderr and "9.png" in table.stderr


def test_evaluate_tells_the_agreement_with_the_final_exit_where_there_are_no_labels(trained: Path, toys: Path) -> None:
    heap = next(folder for folder in toys.iterdir() if folder.is_dir())  # the images of one class: no subfolders
    count = len(list(heap.iterdir()))
    for options, images in (
        (["--data", str(heap)], count),
        (["--data", str(toys), "--unlabelled", "--held-out", "3"], 3),
    ):
        done = said("evaluate", str(trained), *options, "--json")
        assert done.returncode == 0, done.stderr
        found = json.loads(done.stdout)
        assert found["images"] == images and "final_top1" not in found
        assert [row["agreement"] for row in found["exits"]][-1] == found["thresholds"][-1]["agreement"] == 1.0
    table = said("evaluate", str(trained), "--data", str(heap))
    assert "as the final exit" in table.stdout and "calibration error" not in table.stdout


def test_evaluate_says_what_the_repeat_exit_does_on_a_clip(trained: Path, tmp_path: Path) -> None:
    """A scene that stands still, then another one: the network sees the first frame of each, and audits."""
    video = cv2.VideoWriter(str(tmp_path / "clip.avi"), cv2.VideoWriter.fourcc(*"MJPG"), 15.0, (96, 80))
    rng = np.random.default_rng(0)
    for scene in rng.integers(0, 256, (2, 5, 6, 3), np.uint8):
        still = cv2.resize(scene, (96, 80), interpolation=cv2.INTER_CUBIC)
        for _ in range(20):
            video.write(still)
    video.release()
    done = said("evaluate", str(trained), "--data", str(tmp_path / "clip.avi"), "--json")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    repeats = found["repeats"]
    assert found["images"] == 40 and 0 <= repeats["repeated"] <= 0.95
    run = 40 * repeats["macs_fraction"]
    assert run == pytest.approx(
        40 * (1 - repeats["repeated"]) + repeats["audits"], abs=1.01
    )  # one audit may be unheard
    assert repeats["agreement"] == 1 and repeats["disagreed"] == 0
    text = said("evaluate", str(trained), "--data", str(tmp_path / "clip.avi"))
    assert f"{repeats['repeated']:.1%} of the frames repeated" in text.stdout


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--backbone", "mobilnet-v2"], "mobilenet-v2"),
        (["--exits", "99"], "99"),
        (["--exit-at", "nowhere"], "nowhere"),
        (["--train-sizes", "much"], "expected SIZE:SHARE"),
        (["--held-out", "10"], "10 of them held out"),
        (["--device", "cuda"], "sees no CUDA device"),
        (["--classes", "/nowhere.json"], "cannot read /nowhere.json"),
        (["--epochs", "0"], "expected epochs > 0"),
        (["--image-size", "8"], "32 or more"),
        (["--held-out", "0"], "expected a share below 1 or a number of images"),
        (["--device", "abacus"], "expected auto, cpu or cuda"),
        (["--classes", __file__], "expected a JSON list of names"),
    ],
)
def test_what_does_not_fit_is_one_clear_line(
    toys: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    options: list[str],
    message: str,
) -> None:
    code = call([*TRAIN, "--data", str(toys), "--out", str(tmp_path / "out"), *options])
    said = capsys.readouterr().err
    assert code == 1 and message in said, said
    assert "Traceback" not in said and not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("one", "two", "--data", "x"), "got 2 bundles, expected one: one, two"),
        ((), "no images were given: --data FILE.parquet, a folder of images, or a clip"),
        (("--data", __file__), f"{__file__}: neither a parquet file nor a video that can be read"),
        (("--data", __file__, "--data", "x"), f"got the clip {__file__} and 1 more of --data, expected one clip alone"),
    ],
)
def test_what_cannot_be_evaluated_is_one_clear_line(arguments: tuple[str, ...], message: str) -> None:
    done = said("evaluate", *arguments)
    assert (done.returncode, done.stderr.strip()) == (1, f"spinn evaluate: {message}")


def test_an_empty_class_is_refused_and_a_corrupt_image_counted(toys: Path, tmp_path: Path) -> None:
    data = Path(shutil.copytree(toys, tmp_path / "data"))
    for i in range(5, 30):
        shutil.copy(toys / "red" / "0.png", data / "red" / f"{i}.png")
    (data / "blue" / "9.png").write_bytes(b"not a picture")
    quick = ("--image-size", "32", "--exits", "1", "--epochs", "0.3", "--held-out", "4")
    common = (*TRAIN, "--data", str(data), *quick)
    done = said(*common, "--out", str(tmp_path / "a"))
    assert done.returncode == 0 and "1 images skipped" in done.stderr and "9.png" in done.stderr, done.stderr
    (data / "green").mkdir()
    done = said(*common, "--out", str(tmp_path / "b"))
    assert done.returncode == 1 and "1 of 3 classes have no image: green" in done.stderr
