"""The times for virtual time: how long things take on this machine, which stands for the server, measured once."""

from __future__ import annotations

import hashlib
import json
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2

from spinn_drone.world.scene import Scene
from spinn_drone.world.world import CAMERA_HZ, Command
from spinn_stream.bundle import Bundle, load_bundle
from spinn_stream.codec import default_setting
from spinn_stream.errors import ConfigError
from spinn_stream.plan import Plan
from spinn_stream.profile import Profile
from spinn_stream.runtime import Engine, open_engine, stored_profile
from spinn_traces.replay.machine import cores_for_pinning
from spinn_traces.replay.store import write_json
from spinn_traces.simulator import Costs
from spinn_traces.simulator.calibration import BATCHES, measure_apart

RUNTIME = "onnxruntime"

PICTURES = 40
"""Of a flight straight ahead, that costs are measured with."""


@dataclass(frozen=True)
class Machine:
    """profile: of the engine, at full speed. costs: of what the profile does not have. key: hash of both."""

    bundle: Bundle
    engine: Engine
    profile: Profile
    costs: Costs
    key: str


def machine(folder: Path, kept: Path) -> Machine:
    """This machine with a bundle. The times are kept in a file, so that later flights have the same ones.

    Raises:
        ConfigError: the file is not readable, or is of another bundle.
    """
    bundle = load_bundle(folder)
    engine = open_engine(bundle, RUNTIME, threads=1)
    if not kept.exists():
        profile = stored_profile(bundle, engine, threads=1, batches=BATCHES)
        said = {"bundle": bundle.hash, "profile": profile.as_json(), "costs": _costs(bundle, folder).as_json()}
        write_json(kept, said)
    try:
        text = kept.read_text("utf-8")
        values: dict[str, Any] = json.loads(text)
        known = values["bundle"], Profile.from_json(values["profile"]), Costs.from_json(values["costs"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ConfigError(f"{kept}: is not what was measured here ({error}); remove it to measure again") from error
    if known[0] != bundle.hash:
        raise ConfigError(f"{kept} is of another bundle than {folder}; remove it to measure again")
    return Machine(bundle, engine, known[1], known[2], hashlib.sha256(text.encode()).hexdigest()[:16])


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
