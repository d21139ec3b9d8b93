"""`spinn webcam --headless`: the same without a page."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import av

from ..processes import RUN_TIMEOUT_S


def test_the_terminal_view_records_what_it_answers(tmp_path: Path) -> None:
    recorded = tmp_path / "out.mp4"
    command = [sys.executable, "-m", "spinn_stream", "webcam", "--headless", "--runtime", "onnxruntime"]
    process = subprocess.Popen(
        [*command, "--source", "demo", "--record", str(recorded)], stderr=subprocess.PIPE, text=True
    )
    try:
        assert process.stderr is not None
        while not process.stderr.readline().startswith("frame"):
            assert process.poll() is None
        process.send_signal(signal.SIGINT)
        _, rest = process.communicate(timeout=RUN_TIMEOUT_S)
    finally:
        process.kill()
    assert process.returncode == 0 and f"pictures in {recorded}" in rest
    with av.open(str(recorded)) as video:
        assert next(video.decode(video=0)).width == 640
