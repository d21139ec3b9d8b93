"""The times for virtual time: how long things take on this machine, which stands for the server, measured once."""

from __future__ import annotations

import tempfile
from pathlib import Path

import cv2

from spinn_drone.world.scene import Scene
from spinn_drone.world.world import CAMERA_HZ, Command
from spinn_stream.bundle import Bundle
from spinn_stream.codec import default_setting
from spinn_stream.plan import Plan
from spinn_traces.replay.machine import cores_for_pinning
from spinn_traces.simulator import Costs
from spinn_traces.simulator.calibration import measure_apart
from spinn_traces.simulator.measured import Machine, measured

RUNTIME = "onnxruntime"

PICTURES = 40
"""Of a flight straight ahead, that costs are measured with."""


def machine(folder: Path, kept: Path) -> Machine:
    """This machine with a bundle. See `measured`."""
    return measured(folder, RUNTIME, kept, lambda bundle: _costs(bundle, folder))


def _costs(bundle: Bundle, folder: Path) -> Costs:
    """Preparing, coding and decoding, at full speed, on pictures of the drone's own camera."""
    split = bundle.exits[0].cut
    plan = Plan(1, split, None, default_setting(bundle, split))
    cores = cores_for_pinning()
    with tempfile.TemporaryDirectory() as name:
        with Scene(0).open() as world:
            for k in range(PICTURES):
                cv2.imwrite(str(Path(name, f"{k:03d}.png")), world.camera())
                for _ in range(12):
                    world.step(Command(3.0, 0.0))
        return measure_apart(
            str(folder), RUNTIME, name, plan, CAMERA_HZ, slowdown=1.0, core=None if cores is None else cores[0]
        )
