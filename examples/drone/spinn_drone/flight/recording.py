"""A flight as a file, to be looked at again."""

from __future__ import annotations

import json
from pathlib import Path

from spinn_drone.flight.referee import Flight
from spinn_stream.errors import ConfigError
from spinn_traces.replay.store import write_json

MOST_BYTES = 16 << 20
"""A minute of flight takes 100 kB."""


def save(flight: Flight, path: Path) -> None:
    """Write it whole or not at all. Raises ConfigError: it cannot be written."""
    write_json(path, {"format": "spinn-flight", **flight.as_json()})


def load(path: Path) -> Flight:
    """Raises ConfigError: there is no such file, or it is no flight."""
    try:
        if path.stat().st_size > MOST_BYTES:
            raise ConfigError(f"{path} has {path.stat().st_size} bytes, expected a flight of at most {MOST_BYTES}")
        said = json.loads(path.read_text("utf-8"))
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror}") from error
    except ValueError as error:
        raise ConfigError(f"{path} is no JSON: {error}") from error
    try:
        if said.pop("format") != "spinn-flight":
            raise ValueError("format is not spinn-flight")
        track = tuple((float(x), float(y), float(v)) for x, y, v in said.pop("track"))
        ages = tuple(float(age) for age in said.pop("ages_s"))
        flight = Flight(
            int(said["seed"]), said["ending"], float(said["seconds"]), float(said["metres"]),
            float(said["clearance_m"]), ages, track,
        )  # fmt: skip
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise ConfigError(f"{path} is no recorded flight ({error}); expected what --record wrote") from error
    return flight
