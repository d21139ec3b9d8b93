"""A flight with real processes: a world, a server, a link that is shaped, and the robot's own program."""

from __future__ import annotations

import contextlib
import math
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import spinn_client as spinn
from spinn_drone.pilot.pilot import Pilot, PilotConfig
from spinn_drone.robot import DEADLINE_MS, GOAL, Landed, Network, Picture, Robot
from spinn_drone.world.scene import Scene
from spinn_drone.world.world import Command, DroneState
from spinn_stream.errors import ConfigError, SpinnError
from spinn_traces.replay.run.processes import get, started

from .referee import Flight
from .simulator import SimulatedDrone, simulated

BUNDLE = Path(__file__).parent.parent / "bundle"
"""The network that comes with the package."""

READY_S = 180.0
"""A server measures the machine at its first start."""


@dataclass(frozen=True)
class LinkShape:
    """The link to the server. trace: a recorded network, from `offset_s` on, instead of the steady values."""

    up_mbps: float = 8.0
    down_mbps: float = 20.0
    rtt_ms: float = 30.0
    trace: Path | None = None
    offset_s: float = 0.0

    def arguments(self) -> list[str]:
        """The arguments of `spinn shape`."""
        if self.trace is not None:
            return ["--trace", str(self.trace), "--offset", f"{self.offset_s:g}"]
        return ["--up-mbps", f"{self.up_mbps:g}", "--down-mbps", f"{self.down_mbps:g}", "--rtt-ms", f"{self.rtt_ms:g}"]


@dataclass(frozen=True)
class Cut:
    """The link carries nothing from `at` until `at + lasts`, seconds from take-off."""

    at: float
    lasts: float

    @classmethod
    def parse(cls, text: str) -> Cut:
        """`AT:FOR` in seconds, as 3:2. Raises ConfigError."""
        try:
            at, lasts = (float(part) for part in text.split(":"))
        except ValueError:
            raise ConfigError(f"--cut is {text!r:.40}, expected AT:FOR in seconds, as 3:2") from None
        if not (0 <= at <= 3600 and 0 < lasts <= 3600):
            raise ConfigError(f"--cut is {text!r:.40}, expected 0 to 3600 seconds each, and more than 0 for how long")
        return cls(at, lasts)


@dataclass(frozen=True)
class RealFlight:
    """The settings of a flight. device_slowdown: see `spinn run`. runtime: of both ends. server: False: device
    alone."""

    scene: Scene
    policy: str = "spinn"
    server: bool = True
    link: LinkShape = field(default_factory=LinkShape)
    cuts: tuple[Cut, ...] = ()
    deadline_ms: float = DEADLINE_MS
    device_slowdown: float = 1.0
    runtime: str = "auto"
    pilot: PilotConfig = field(default_factory=PilotConfig)
    bundle: Path = BUNDLE
    goal: str = GOAL


@dataclass(frozen=True)
class Watcher:
    """Is told about the flight.

    say: a line. command: each command and its answer's age, s. looked: each picture, and the drone's place. link: the
    port at which the link's settings can be changed (docs/shaper.md). stop: called at each command; if it is true, the
    flight is given up.
    """

    say: Callable[[str], object]
    command: Callable[[Command, float], object] = lambda command, age: None
    looked: Callable[[Picture, DroneState], object] = lambda picture, at: None
    link: Callable[[int], object] = lambda port: None
    stop: Callable[[], bool] = lambda: False


def fly(wanted: RealFlight, watcher: Watcher) -> Flight:
    """Start everything, fly, and end everything. Ctrl-C ends it at any time.

    Raises:
        SpinnError: something could not be started; says which and why.
    """
    ages: list[float] = []

    def on_command(command: Command, age: float) -> None:
        ages.append(age)
        watcher.command(command, age)
        if watcher.stop():
            raise Landed

    def on_event(event: spinn.Event) -> None:
        if not isinstance(event, spinn.Noted | spinn.SourceEnded):
            watcher.say(event.text)

    robot = Robot(Pilot(wanted.pilot), on_command=on_command, on_event=on_event)
    device = spinn.DeviceConfig(wanted.bundle, wanted.runtime, threads=1, slowdown=wanted.device_slowdown)
    network = Network(device, None, wanted.policy, wanted.goal, wanted.deadline_ms)
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        watcher.say("starting the world ...")
        drone = stack.enter_context(simulated(wanted.scene))
        drone.looked = watcher.looked
        control = None
        if wanted.server:
            watcher.say("starting the server and the link ...")
            address, control = stack.enter_context(_served(wanted, folder))
            network = replace(network, server=address)
            watcher.link(control)

        def take_off() -> SimulatedDrone:
            if control is not None:
                stack.enter_context(_cutting(control, wanted.cuts, watcher.say))
            watcher.say("take-off")
            return drone

        robot.fly(take_off, network)
    flight = drone.flight or Flight(wanted.scene.seed, "given up", 0.0, 0.0, math.inf)
    return replace(flight, ages_s=tuple(min(age, flight.seconds) for age in ages))


@contextlib.contextmanager
def _served(wanted: RealFlight, folder: Path) -> Iterator[tuple[str, int]]:
    """The address of a server behind a shaped link, and the port of the link's control."""
    serve = ["serve", "--bundle", str(wanted.bundle), "--port", "0", "--runtime", wanted.runtime]
    with started("serve", serve, folder, None) as server:
        address = server.line("ready ", READY_S).rpartition("/")[2]
        shape = ["shape", "--listen", "127.0.0.1:0", "--to", address, "--control", "127.0.0.1:0"]
        with started("shape", [*shape, *wanted.link.arguments()], folder, None) as shaper:
            at = shaper.line("ready ", READY_S)
            yield f"ws://{at}", int(shaper.line("control ", READY_S).rpartition(":")[2])


@contextlib.contextmanager
def _cutting(control: int, cuts: tuple[Cut, ...], say: Callable[[str], object]) -> Iterator[None]:
    """Cut the link and mend it, at times from now on, until the block ends."""
    over = threading.Event()
    began = time.monotonic()

    def work() -> None:
        for at, stall in sorted([(c.at, True) for c in cuts] + [(c.at + c.lasts, False) for c in cuts]):
            if over.wait(max(0.0, began + at - time.monotonic())):
                return
            try:
                get(control, "/", {"stall": stall})
            except SpinnError as error:
                say(f"the link could not be changed: {error}")
                return
            say("the link is cut" if stall else "the link is back")

    thread = threading.Thread(target=work, name="cutting", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join(2.0)
