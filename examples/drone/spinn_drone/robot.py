"""The robot's own program: pictures in, answers out, commands to the motors. All that talks to the stream is here.

The robot has a camera and takes commands (`Drone`). It does not know whether that is a simulator. Its pictures go into
a stream, and the stream answers each by its deadline, from the device or the server. The pilot flies by the newest
answer, and the older that is, the slower.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from typing import Protocol

import spinn_client as spinn
from spinn_drone.pilot.answers import answer_of
from spinn_drone.pilot.pilot import Answer, Pilot
from spinn_drone.world.world import CAMERA_HZ, CONTROL_HZ, Command
from spinn_stream.frame import Pixels

GOAL = "accuracy_drop <= 1%; minimize latency_ms, then maximize accuracy"
"""Young answers first, and of plans that are about as fast, the one that is right more often."""

DEADLINE_MS = 150.0  # the age by which every picture has its answer


@dataclass(frozen=True)
class Picture:
    """What the camera saw. captured: when, in seconds of `time.monotonic`."""

    pixels: Pixels
    captured: float


class Drone(Protocol):
    """The hardware, or a simulator of it."""

    def wait(self, seconds: float) -> Picture | None:
        """The next picture, or None if none comes within this time. Raises Landed: the flight is over."""

    def fly(self, command: Command) -> None:
        """Fly like this from now on. Does not wait."""


class Landed(Exception):
    """The flight is over."""


@dataclass(frozen=True)
class Network:
    """The device and server that answer. server: address of `spinn serve`; None: the device alone."""

    bundle: spinn.DeviceConfig
    server: str | None
    policy: str = "spinn"
    goal: str = GOAL
    deadline_ms: float = DEADLINE_MS


class Robot:
    """Flies a drone by the answers of a stream.

    Args:
        on_command: told of each command and the age of the answer behind it, in seconds.
        on_event: told what happens to the link and the plan.
    """

    def __init__(
        self,
        pilot: Pilot,
        *,
        on_command: Callable[[Command, float], object] = lambda command, age: None,
        on_event: Callable[[spinn.Event], object] = lambda event: None,
    ) -> None:
        self._pilot = pilot
        self._on_command, self._on_event = on_command, on_event
        self._answers: SimpleQueue[Answer] = SimpleQueue()

    def fly(self, connect: Callable[[], Drone], network: Network) -> None:
        """Open the stream, take off, and fly until the drone has landed.

        Raises:
            SpinnError: the server, the bundle or the engine cannot be used; says which.
        """
        camera = spinn.Pushed(fps=CAMERA_HZ)
        server = None if network.server is None else spinn.LinkConfig(network.server, allow_offline=True)
        with spinn.SyncStream(
            camera, server=server, policy=network.policy, sla=network.goal, deadline_ms=network.deadline_ms,
            device=network.bundle, on_result=self._heard, on_event=self._on_event,
        ):  # fmt: skip
            spinn.tune_process()
            drone = connect()
            due = time.monotonic()
            try:
                while True:
                    picture = drone.wait(max(0.0, due - time.monotonic()))
                    if picture is not None:
                        camera.push(picture.pixels, picture.captured)
                    if time.monotonic() >= due:
                        due = max(due + 1 / CONTROL_HZ, time.monotonic())
                        drone.fly(self._command())
            except Landed:
                camera.end()

    def _heard(self, result: spinn.Result) -> None:
        """In the stream's thread: what a picture shows."""
        answer = answer_of(dict(result.top), time.monotonic() - result.age_ms / 1000)
        if answer is not None:
            self._answers.put(answer)

    def _command(self) -> Command:
        try:
            while True:
                self._pilot.heard(self._answers.get_nowait())
        except Empty:
            now = time.monotonic()
            command = self._pilot.command(now)
            self._on_command(command, self._pilot.age(now))
            return command
