"""How a stream is set up, in groups; every value is checked when it is given."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from spinn_client.frames.frame_source import FrameSource
from spinn_client.link.connection import Dial
from spinn_client.link.dial import dial
from spinn_stream.bundle import DEFAULT_BUNDLE, Bundle
from spinn_stream.profile import Profile
from spinn_stream.runtime import Engine
from spinn_stream.runtime.machine.host import THIS_MACHINE, Host


@dataclass(frozen=True)
class DeviceConfig:
    """What runs here."""

    bundle: Path | Bundle = DEFAULT_BUNDLE  # the folder of one, or one that is loaded already
    runtime: str = "auto"  # an engine's name; auto: the fastest, measured once on each machine
    threads: int | None = None  # of the engine; None: the cores this process has but one, at most 4
    slowdown: float = 1.0  # everything takes this many times as long: it stands for a smaller board

    def __post_init__(self) -> None:
        if self.threads is not None and self.threads < 1:
            raise ValueError(f"threads is {self.threads}, expected at least 1, or None")
        if not 1 <= self.slowdown <= 1000:
            raise ValueError(f"the device's slowdown is {self.slowdown}, expected 1 to 1000")


@dataclass(frozen=True)
class Parts:
    """What a simulation puts in the place of this machine's own."""

    host: Host = THIS_MACHINE  # clock, threads, pace
    dial: Dial = dial  # opens connections
    rng: random.Random = field(default_factory=random.Random)  # of the pauses between two tries to connect
    engine: tuple[Engine, Profile] | None = None  # instead of one that is opened and measured
    feed: Callable[[], FrameSource] | None = None  # instead of a source's own
    began: Callable[[], object] = lambda: None  # called when all is built and the first frame may be taken
