"""Cameras on the page in a real Chromium: the visitor's own, one by RTSP, and what is said if there is none."""

from __future__ import annotations

from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

import pytest

from ..bundles import DEFAULT
from ..processes import run_client
from ..rtsp import encoded, rtsp_camera
from .conftest import CODE_PX, FAKE, FPS, TRIES_MS, Browsers, Clip, Seen, click, demo

CONFIDENT = 0.5

WATCH = (
    """() => {
  window.seen = [];
  const small = document.createElement("canvas");
  small.width = 4; small.height = 1;
  const pen = small.getContext("2d", { willReadFrequently: true });
  setInterval(() => {
    const canvas = document.querySelector(".stage canvas");
    const label = document.querySelector("[data-lane=ours] [data-part=label]").textContent;
    if (!canvas.width || !label) return;
    pen.drawImage(canvas, 0, 0, 4 * CODE, CODE, 0, 0, 4, 1);
    const bits = [0, 1, 2, 3].map((bit) => (pen.getImageData(bit, 0, 1, 1).data[1] > 127) << bit);
    window.seen.push([bits.reduce((a, b) => a + b), label]);
  }, 40);
}"""
).replace("CODE", str(CODE_PX))


@pytest.mark.slow
def test_a_visitors_camera_gets_the_labels_of_spinn_run(clip: Clip, tmp_path: Path, browser: Browsers) -> None:
    ran = run_client(
        tmp_path, "--source", str(clip.video), "--unpaced", "--split", "final", "--threshold", "none", *DEFAULT
    )
    expected = labels_of(ran.finals)
    camera = (*FAKE, f"--use-file-for-fake-video-capture={clip.mjpeg}")
    with demo("--source", "browser", "--deadline-ms", "400") as started, browser(*camera) as found:
        page = found.new_page()
        page.set_default_timeout(TRIES_MS)
        watched = Seen()
        watched.watch(page)
        page.goto(started.address)
        page.wait_for_selector("text=choose “My camera” to begin")
        page.wait_for_function("() => window.spinnWebcam && document.querySelector('.charts canvas')")
        click(page, "My camera")
        page.wait_for_selector(".answer[data-kind]")
        page.evaluate(WATCH)
        page.wait_for_timeout(1500 * clip.seconds)
        shown: dict[int, Counter[str]] = defaultdict(Counter)
        for second, label in page.evaluate("window.seen"):
            shown[second][label] += 1
    longest = {second: counts.most_common(1)[0][0] for second, counts in shown.items()}
    assert len(expected) >= clip.seconds // 2, "the clip is to have seconds that are sure"
    right = [second for second, label in expected.items() if longest.get(second) == label]
    assert len(right) >= 0.9 * len(expected), (expected, longest)
    assert watched.errors == []


def labels_of(finals: list[dict[str, Any]]) -> dict[int, str]:
    """The label given most often in each second, for the seconds in which answers are confident."""
    by_second: dict[int, list[dict[str, Any]]] = defaultdict(list)
    for result in finals:
        by_second[result["frame"] // FPS].append(result)
    return {
        second: Counter(r["label"] for r in results).most_common(1)[0][0]
        for second, results in by_second.items()
        if sum(r["confidence"] for r in results) / len(results) >= CONFIDENT
    }


@pytest.mark.slow
def test_a_self_signed_page_that_is_open_to_the_network_asks_for_its_token(browser: Browsers) -> None:
    with (
        demo("--source", "browser", "--host", "0.0.0.0", "--tls", "self-signed") as started,
        browser(*FAKE) as found,
    ):
        _, _, port_and_token = started.address.rpartition(":")
        port, _, token = port_and_token.partition("/?token=")
        here = f"https://127.0.0.1:{port}/"
        page = found.new_context(ignore_https_errors=True).new_page()
        page.set_default_timeout(TRIES_MS)
        assert len(token) >= 20
        refused = page.goto(here)
        assert refused is not None and refused.status == 401
        page.goto(f"{here}?token={token}")
        assert page.url == here
        page.wait_for_function("() => window.spinnWebcam && document.querySelector('.charts canvas')")
        click(page, "My camera")
        page.wait_for_selector(".stage[data-live]")


@pytest.mark.slow
def test_an_rtsp_camera_is_shown_and_its_loss_is_said(chromium: Any, clip: Clip) -> None:
    with rtsp_camera(encoded(clip.video)) as camera, demo("--source", camera.address) as started:
        page = chromium.new_page()
        page.set_default_timeout(TRIES_MS)
        page.goto(started.address)
        page.wait_for_selector(".stage[data-live]")
        page.wait_for_selector(".answer[data-kind]")
        page.wait_for_selector(f".chip.good >> text=camera: {camera.address}")
        camera.cut()
        page.wait_for_selector(f".notice >> text={camera.address} gives no more pictures; trying again")
        page.wait_for_selector(".chip.bad >> text=camera")
        page.close()
