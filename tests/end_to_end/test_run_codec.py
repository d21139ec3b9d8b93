"""`spinn run --codec`: changes since what the server has seen cost little, and a server that forgets costs no frame."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import cv2
import numpy as np
import pytest

from ..faults.test_server_away import answered, wait_for
from ..processes import ClientProcess, RunOutput, ServerProcess, run_client, server

DEADLINE_MS, PATIENT_MS = 1000, 10_000
FRAMES = 60


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small square goes through a still, noisy scene."""
    path = tmp_path_factory.mktemp("clip") / "scene.avi"
    rng = np.random.default_rng(1)
    scene = cv2.resize(rng.integers(0, 256, (12, 16, 3), np.uint8), (320, 240)).astype(np.int16)
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 30, (320, 240))
    for i in range(FRAMES):
        frame = np.clip(scene + rng.integers(-2, 3, scene.shape), 0, 255).astype(np.uint8)
        frame[100:130, 40 + 4 * i % 200 :][:, :30] = (20, 200, 240)
        writer.write(frame)
    writer.release()
    return path


def play(folder: Path, clip: Path, address: str, split: str, codec: str) -> RunOutput:
    out = run_client(folder, "--source", str(clip), "--server", address, "--split", split, "--codec", codec,
                     "--threshold", "none", "--unpaced", "--deadline-ms", str(PATIENT_MS))  # fmt: skip
    out.check_contract(PATIENT_MS)
    assert out.summary["server"] == out.summary["final"] == out.summary["taken"] == FRAMES
    return out


def test_changes_take_less_than_the_baseline_and_give_its_answers(
    serving: ServerProcess, clip: Path, tmp_path: Path
) -> None:
    per_frame, labels = {}, {}
    for codec in ("transform:6", "cnn-co:8", "cnn-co:4"):
        out = play(tmp_path / codec, clip, serving.address, "9", codec)
        per_frame[codec] = out.summary["bytes_up"] / out.summary["taken"]
        labels[codec] = out.labels
    assert serving.metric("spinn_reference_bytes") == 0, "a client left, and what it sent is still held"
    assert serving.metric('spinn_rejects_total{reason="no_reference"}') == 0
    print({codec: round(size) for codec, size in per_frame.items()})
    assert per_frame["transform:6"] < per_frame["cnn-co:4"] / 3 < per_frame["cnn-co:8"] / 4
    both = labels["transform:6"].keys() & labels["cnn-co:8"].keys()
    assert np.mean([labels["transform:6"][f] == labels["cnn-co:8"][f] for f in both]) >= 0.9


@pytest.mark.parametrize("codec", ["jpeg:85", "jpeg:30", "png"])
def test_every_codec_of_frames_is_answered_by_the_server(
    serving: ServerProcess, clip: Path, tmp_path: Path, codec: str
) -> None:
    out = play(tmp_path, clip, serving.address, "0", codec)
    assert (out.summary["bytes_up"] > 8000 * FRAMES) == (codec == "png")
    assert serving.metric("spinn_reference_bytes") == 0


@pytest.mark.alone
@pytest.mark.slow
def test_a_server_that_is_killed_and_comes_back_gets_key_frames(clip: Path, tmp_path: Path) -> None:
    """It knows nothing of what the one before was sent; not one of its requests refers to that."""
    with server() as first:
        port = first.port
        client = ClientProcess(tmp_path, "--source", str(clip), "--loop", "--server", first.address, "--split", "9",
                               "--codec", "transform:6", "--threshold", "none",
                               "--deadline-ms", str(DEADLINE_MS))  # fmt: skip
        wait_for(lambda: answered(client, "server", 30), "server answers after the thirtieth frame")
        assert first.metric("spinn_reference_bytes") > 0
        first.kill()
    with server(port=port) as second:
        seen = len(client.results())
        wait_for(lambda: answered(client, "server", seen), "server answer")
        wait_for(lambda: answered(client, "server", seen + 30), "server answers thirty frames later")
        assert second.metric("spinn_reference_bytes") > 0
        out = client.finish(interrupt=True)
        for reason in ("no_reference", "bad_payload"):
            assert second.metric(f'spinn_rejects_total{{reason="{reason}"}}') == 0
    out.check_contract(DEADLINE_MS)
    reasons = Counter(r["reason"] for r in out.finals)
    assert len(out.unanswered) <= out.few and reasons["rejected"] == 0 and reasons["disconnected"] > 0, reasons
