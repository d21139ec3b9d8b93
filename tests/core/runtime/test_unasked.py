"""What an engine does to the user's machine unasked: nothing."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from spinn_stream.runtime.engines.registry import ENGINES, installed

from ...bundles import LITE2_200

SCRIPT = f"""
import sys
from pathlib import Path
import numpy as np
from spinn_stream.bundle import load_bundle
from spinn_stream.runtime.engines.registry import open_one

bundle = load_bundle(Path({str(LITE2_200)!r}))
engine = open_one(bundle, sys.argv[1], threads=1)
engine.run(0, bundle.last, np.zeros((1, *bundle.cut_points[0].shape), np.float32))
assert "openvino_telemetry" not in sys.modules
"""


@pytest.mark.parametrize("name", ENGINES)
def test_an_engine_writes_no_file_of_its_own(tmp_path: Path, name: str) -> None:
    """No device id, no queue of events. Both telemetries keep still by themselves where `CI` is set, so it is not."""
    if name not in installed():
        pytest.skip(f"{name} is not installed")
    folders = {}
    for variable in ("HOME", "XDG_CACHE_HOME", "XDG_CONFIG_HOME", "XDG_DATA_HOME", "XDG_STATE_HOME", "TMPDIR"):
        folders[variable] = str(tmp_path / variable)
        (tmp_path / variable).mkdir()
    told = {"CI", "TF_BUILD", "JENKINS_URL", "GITHUB_ACTIONS", "ORT_DISABLE_TELEMETRY"}
    environment = {k: v for k, v in os.environ.items() if k not in told} | folders
    subprocess.run([sys.executable, "-c", SCRIPT, name], env=environment, cwd=tmp_path, check=True, timeout=120)
    assert [str(path) for path in tmp_path.rglob("*") if path.is_file()] == []
