"""This machine's times for virtual time, measured once and kept in a file, so that later runs have the same ones."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from spinn_stream.bundle import Bundle, load_bundle
from spinn_stream.errors import ConfigError
from spinn_stream.profile import Profile
from spinn_stream.runtime import Engine, open_engine, stored_profile
from spinn_traces.replay.store import write_json

from .calibration import BATCHES
from .costs import Costs


@dataclass(frozen=True)
class Machine:
    """profile: of the engine, at full speed. costs: of what the profile does not have. key: hash of both."""

    bundle: Bundle
    engine: Engine
    profile: Profile
    costs: Costs
    key: str


def measured(folder: Path, runtime: str, kept: Path, costs: Callable[[Bundle], Costs]) -> Machine:
    """This machine with a bundle.

    Args:
        folder: of the bundle. runtime: name of its engine. kept: the file. costs: measures them, if there is no file.

    Raises:
        ConfigError: the file is not readable, or is of another bundle.
    """
    bundle = load_bundle(folder)
    engine = open_engine(bundle, runtime, threads=1)
    if not kept.exists():
        profile = stored_profile(bundle, engine, threads=1, batches=BATCHES)
        write_json(kept, {"bundle": bundle.hash, "profile": profile.as_json(), "costs": costs(bundle).as_json()})
    try:
        text = kept.read_text("utf-8")
        values: dict[str, Any] = json.loads(text)
        known = values["bundle"], Profile.from_json(values["profile"]), Costs.from_json(values["costs"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ConfigError(f"{kept}: is not what was measured here ({error}); remove it to measure again") from error
    if known[0] != bundle.hash:
        raise ConfigError(f"{kept} is of another bundle than {folder}; remove it to measure again")
    return Machine(bundle, engine, known[1], known[2], hashlib.sha256(text.encode()).hexdigest()[:16])
