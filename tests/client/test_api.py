"""The public API: what it exports, and that the programs in docs/embed.md run as they stand there."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest

import spinn_client as spinn

from ..processes import ServerProcess
from ..stalls import Stalls

DOC = Path(__file__).parent.parent.parent / "docs" / "embed.md"
PROGRAMS = re.findall(r"```python\n(.*?)```", DOC.read_text(), re.S)


def test_everything_exported_is_there_and_documented() -> None:
    assert sorted(spinn.__all__) == spinn.__all__
    for name in spinn.__all__:
        assert getattr(spinn, name).__doc__, name
    public = {name for name in vars(spinn) if not name.startswith("_") and name[0].isupper()}
    assert public == {name for name in spinn.__all__ if name[0].isupper()}


@pytest.mark.alone
@pytest.mark.parametrize("program", PROGRAMS, ids=["async", "sync", "pushed"])
def test_the_programs_of_the_docs_are_short_run_silently_and_end(
    serving_default: ServerProcess, short_demo: Path, program: str
) -> None:
    """With warnings as errors and the event loop's debug mode, which complains of whatever blocks it for 100 ms.

    If the machine let nobody run meanwhile, the loop may be blocked by as much longer.
    """
    assert sum(bool(line.strip()) for line in program.splitlines()) <= 15
    program = program.replace("ws://127.0.0.1:8765", serving_default.address).replace('"demo"', repr(str(short_demo)))
    stalls, began = Stalls(), time.monotonic()
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", program],
        env=os.environ | {"PYTHONASYNCIODEBUG": "1"}, capture_output=True, text=True, timeout=180, check=False,
    )  # fmt: skip
    stalls.end()
    allowed_s = 0.1 + stalls.within_ms(began, time.monotonic()) / 1000
    blocked = re.findall(r"^Executing <.* took ([\d.]+) seconds\n", done.stderr, re.M)
    assert done.returncode == 0 and len(done.stderr.splitlines()) == len(blocked), done.stderr
    assert all(float(seconds) <= allowed_s for seconds in blocked), done.stderr
    answers = [line for line in done.stdout.splitlines() if re.search(r"server|device|confident|final_exit", line)]
    assert len(answers) >= (1 if "Pushed" in program else 30)


def test_importing_loads_no_engine_and_changes_nothing_of_the_process() -> None:
    script = (
        "import gc, signal, sys, threading\n"
        "before = (gc.get_threshold(), gc.get_freeze_count(), sys.getswitchinterval(), threading.active_count(),\n"
        "          [signal.getsignal(s) for s in (2, 15)])\n"
        "import spinn_client\n"
        "after = (gc.get_threshold(), gc.get_freeze_count(), sys.getswitchinterval(), threading.active_count(),\n"
        "         [signal.getsignal(s) for s in (2, 15)])\n"
        "assert before == after, (before, after)\n"
        "loaded = {'onnxruntime', 'openvino', 'torch', 'skimage', 'uvloop', 'websockets'} & sys.modules.keys()\n"
        "assert not loaded, loaded\n"
    )
    subprocess.run([sys.executable, "-c", script], check=True, timeout=60)
