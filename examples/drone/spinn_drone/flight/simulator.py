"""The world as a process of its own, in real time: pictures and the end of the flight come out, commands go in."""

from __future__ import annotations

import contextlib
import multiprocessing
import signal
import time
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection

from spinn_drone.robot import Landed, Picture
from spinn_drone.world.scene import Scene
from spinn_drone.world.world import CAMERA_HZ, PHYSICS_HZ, Command, DroneState
from spinn_stream.errors import SpinnError

from .referee import Flight, Referee

LATE_S = 0.25
"""If the world is later than this, it does not catch up: its clock stands still for that time."""

START_TIMEOUT_S = 60.0


class SimulatedDrone:
    """A drone whose camera and motors are in another process. See `robot.Drone`.

    looked: gets each picture and the drone's place, which the robot does not know.
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self.flight: Flight | None = None
        self.looked: Callable[[Picture, DroneState], object] = lambda picture, at: None

    def wait(self, seconds: float) -> Picture | None:
        """See `Drone`."""
        if not self._connection.poll(seconds):
            return None
        try:
            said = self._connection.recv()
        except EOFError:
            raise SpinnError("the simulator's process ended before the flight did") from None
        if isinstance(said, Flight):
            self.flight = said
            raise Landed
        picture, at = said
        assert isinstance(picture, Picture)
        self.looked(picture, at)
        return picture

    def fly(self, command: Command) -> None:
        """See `Drone`."""
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # it has landed; `wait` says so
            self._connection.send(command)


@contextlib.contextmanager
def simulated(scene: Scene) -> Iterator[SimulatedDrone]:
    """A drone in a scene; the clock starts when it is first told to fly. The process ends with the block."""
    context = multiprocessing.get_context("spawn")
    near, far = context.Pipe()
    process = context.Process(target=_fly, args=(far, scene), name="world", daemon=True)
    process.start()
    far.close()
    try:
        if not near.poll(START_TIMEOUT_S):
            raise SpinnError(f"the simulator's process said nothing for {START_TIMEOUT_S:g} s")
        try:
            near.recv()  # it is ready
        except EOFError:
            raise SpinnError("the simulator's process did not start; its reason is above") from None
        yield SimulatedDrone(near)
    finally:
        near.close()
        process.join(2.0)
        if process.is_alive():
            process.kill()
            process.join()


def _fly(connection: Connection, scene: Scene) -> None:
    """The process: ends with the flight, or when its other end is gone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent process
    with scene.open() as world:
        world.camera()
        referee = Referee(world, seed=scene.seed, length=scene.config.length)
        try:
            connection.send("ready")
            command: Command = connection.recv()
            began = time.monotonic()
            while referee.ending is None:
                late = time.monotonic() - began - (referee.steps + 1) / PHYSICS_HZ
                if late > LATE_S:
                    began += late
                if referee.steps % (PHYSICS_HZ // CAMERA_HZ) == 0:
                    captured = began + referee.steps / PHYSICS_HZ
                    connection.send((Picture(world.camera(), captured), world.drone))
                while connection.poll(max(0.0, began + (referee.steps + 1) / PHYSICS_HZ - time.monotonic())):
                    command = connection.recv()
                referee.step(command)
            connection.send(referee.flight())
            while True:  # until the other end is closed
                connection.recv()
        except (EOFError, BrokenPipeError, ConnectionResetError):
            pass
