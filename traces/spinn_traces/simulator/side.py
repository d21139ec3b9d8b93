"""One of the two machines of a simulated system."""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass, field

from spinn_stream.bundle import Bundle
from spinn_stream.profile import Profile
from spinn_stream.runtime.machine.host import Host

from .costs import CostedPace, Costs
from .virtual_loop import VirtualLoop, VirtualThread


@dataclass(frozen=True)
class Side:
    """profile: of the engine at full speed. pace: factor on its times of graphs. graphs: known times of single
    graphs (see `Costs`).

    slowdown: the factor on every time; the side's own profile includes it.
    """

    profile: Profile
    costs: Costs
    pace: float = 1.0
    graphs: Mapping[tuple[int, int, bool], float] = field(default_factory=dict)
    slowdown: float = 1.0


def host_of(loop: VirtualLoop, bundle: Bundle, side: Side, rng: random.Random) -> Host:
    """The clock, threads and pace of a side. rng: for the variation of times."""

    def thread(name: str) -> VirtualThread:
        return VirtualThread(loop, side.costs.hand_over_ms / 1000)

    pace = CostedPace(
        bundle,
        side.profile,
        side.costs,
        loop.spend,
        pace=side.pace,
        graphs=side.graphs,
        slowdown=side.slowdown,
        rng=rng,
    )
    return Host(clock=loop.clock, worker=thread, builder=thread, pace=pace)
