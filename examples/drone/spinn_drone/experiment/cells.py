"""The cells of the experiment: a policy on a network, and the settings that all share."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np

from spinn_drone.pilot.pilot import PilotConfig
from spinn_drone.robot import DEADLINE_MS, GOAL
from spinn_drone.world.forest import ForestConfig
from spinn_drone.world.scene import COURSE
from spinn_stream.trace import Trace
from spinn_traces.readers import read_trace

ALONE = "device-only"
"""The policy that uses no network: its flights are the same on every one, so it flies without."""

POLICIES = (ALONE, "server-only", "neurosurgeon", "edgent", "dyno", "spinn")
NETWORKS = ("wifi", "lte-walking", "lte-driving", "wifi-walking")
"""wifi: 20 Mb/s and 10 ms, always. The others are made-up traces (traces/data); the last two have long outages."""

ORACLES = {"rays": 0.0, "rays, 150 ms late": 0.15, "oracle": 0.0, "oracle, 150 ms late": 0.15}
"""Policy without a link -> delay of its answers, s. rays: they know the forest. oracle: the network's final exit."""

NO_NETWORK = "none"

OFFSET_S = 37.7
"""Each seed begins its trace this much later than the one before."""


@dataclass(frozen=True)
class Setting:
    """What all flights share. slowdown: of the device. goal: for the policies that take a user's. bundle: its hash.
    machine: `Machine.key`."""

    slowdown: float = 50.0
    goal: str = GOAL
    deadline_ms: float = DEADLINE_MS
    course: ForestConfig = COURSE
    pilot: PilotConfig = field(default_factory=PilotConfig)
    bundle: str = ""
    machine: str = ""

    @property
    def key(self) -> str:
        """The same for the same setting; flights of another one are flown again."""
        return hashlib.sha256(json.dumps(asdict(self), sort_keys=True).encode()).hexdigest()[:16]


@dataclass(frozen=True)
class Cell:
    """A policy on a network."""

    policy: str
    network: str

    @property
    def delay(self) -> float | None:
        """Of answers that come without a system, s; None: a system answers."""
        return ORACLES.get(self.policy)


def cell_of(policy: str, network: str) -> Cell:
    """The cell whose flights are those of a policy on a network."""
    return Cell(policy, NO_NETWORK if policy in ORACLES or policy == ALONE else network)


CELLS = tuple(
    dict.fromkeys([cell_of(p, NO_NETWORK) for p in ORACLES] + [cell_of(p, n) for n in NETWORKS for p in POLICIES])
)


def todo(episodes: int) -> Iterator[tuple[int, Cell]]:
    """Seeds and cells, all cells of a seed before the next seed, so that cells can be paired even if it is
    interrupted."""
    return ((seed, cell) for seed in range(episodes) for cell in CELLS)


def trace_of(network: str, data: Path) -> Trace:
    """The network's trace, with every field. data: folder of the traces."""
    if network == "wifi":
        up, down, rtt = (np.array([value]) for value in (20.0, 20.0, 10.0))
        return Trace(np.zeros(1), 1000.0, up, down, rtt).filled()
    return read_trace(data / f"{network}.csv").trace.filled()


def offset_s(seed: int, trace: Trace) -> float:
    """Where in the trace a flight begins."""
    return (seed * OFFSET_S) % trace.duration_s
