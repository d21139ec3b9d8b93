"""Opens the engine of this device, and measures it if that was never done."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from spinn_stream.bundle import DEFAULT_BUNDLE, Bundle
from spinn_stream.profile import Profile
from spinn_stream.repeat import DEFAULT_AUDIT_RATE
from spinn_stream.runtime import Engine, open_engine, stored_profile
from spinn_stream.runtime.machine.cores import default_threads


@dataclass(frozen=True)
class DeviceConfig:
    """What runs here."""

    bundle: Path | Bundle = DEFAULT_BUNDLE  # the folder of one, or one that is loaded already
    runtime: str = "auto"  # an engine's name; auto: the fastest, measured once on each machine
    threads: int | None = None  # of the engine; None: the cores this process has but one, at most 4
    slowdown: float = 1.0  # everything takes this many times as long: it stands for a smaller board
    repeat: bool | None = None  # frames that hardly changed get the answer of an earlier one; None: see `CameraAnswers`
    audit_rate: float = DEFAULT_AUDIT_RATE  # share of these that are run all the same, to compare

    def __post_init__(self) -> None:
        if self.threads is not None and self.threads < 1:
            raise ValueError(f"threads is {self.threads}, expected at least 1, or None")
        if not 1 <= self.slowdown <= 1000:
            raise ValueError(f"the device's slowdown is {self.slowdown}, expected 1 to 1000")
        if not 0 <= self.audit_rate <= 1:
            raise ValueError(f"the audit rate is {self.audit_rate}, expected 0 to 1")

    @property
    def engine_threads(self) -> int:
        return self.threads or default_threads()


def open_here(
    bundle: Bundle,
    config: DeviceConfig,
    say: Callable[[str], object],
    warn: Callable[[str], object],
    stop: Callable[[], bool],
) -> tuple[Engine, Profile]:
    """The engine and its profile here, slowed down as configured. Blocks; the first time for long.

    Args:
        say, warn: get a line each. stop: asked often while the machine is measured.

    Raises:
        EngineError: no engine works here. ConfigError: no engine has that name. Interrupted: `stop` said so.
    """
    threads = config.engine_threads
    engine = open_engine(bundle, config.runtime, threads=threads, say=say, warn=warn, stop=stop)
    profile = stored_profile(bundle, engine, threads=threads, say=say, stop=stop)
    name = engine.name if threads == 1 else f"{engine.name} with {threads} threads"
    slowed = "" if config.slowdown == 1 else f", slowed down {config.slowdown:g} times"
    say(f"bundle {bundle.name} {bundle.hash[:12]}, engine {name}{slowed}: building the network ...")
    return engine, profile if config.slowdown == 1 else profile.slowed(config.slowdown)
