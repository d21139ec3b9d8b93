"""One flight of the experiment, in virtual time: the same setting, seed and cell give the same, to the last digit."""

from __future__ import annotations

from pathlib import Path

from spinn_client.steering.guide import Asked
from spinn_drone.flight.lockstep import LockStep, Look, fly_by, fly_by_stream
from spinn_drone.flight.referee import Flight, Referee
from spinn_drone.perception.classes import truth
from spinn_drone.perception.whole_network import WholeNetwork
from spinn_drone.pilot.answers import answer_of, answer_of_rays
from spinn_drone.pilot.pilot import Answer, Pilot
from spinn_drone.world.forest_world import ForestWorld
from spinn_drone.world.scene import Scene
from spinn_drone.world.world import CAMERA_HZ
from spinn_traces.simulator import MemoEngine, Side, System
from spinn_traces.simulator.measured import Machine

from .cells import NO_NETWORK, Cell, Setting, offset_s, trace_of


def fly(setting: Setting, cell: Cell, seed: int, machine: Machine, traces: Path) -> Flight:
    """One flight. traces: folder of recorded networks."""
    with Scene(seed, setting.course).open() as world:
        referee = Referee(world, seed=seed, length=setting.course.length)
        flying = LockStep(world, Pilot(setting.pilot), referee)
        if cell.delay is None:
            return fly_by_stream(system(setting, cell, seed, machine, traces), flying)
        look = _rays(world) if cell.policy.startswith("rays") else _network(world, machine)
        return fly_by(look, flying, delay=cell.delay)


def system(setting: Setting, cell: Cell, seed: int, machine: Machine, traces: Path) -> System:
    """Device, link and server of a cell; without a network, the device alone."""
    trace = None if cell.network == NO_NETWORK else trace_of(cell.network, traces)
    costs = machine.costs
    return System(
        bundle=machine.bundle,
        engine=MemoEngine(machine.engine, most_bytes=64 << 20),
        device=Side(machine.profile, costs, costs.device_pace, costs.graph_ms, setting.slowdown),
        server=None if trace is None else Side(machine.profile, costs, costs.server_pace),
        plan=Asked.of(cell.policy, setting.goal),
        trace=trace,
        trace_offset_s=0.0 if trace is None else offset_s(seed, trace),
        fps=float(CAMERA_HZ),
        deadline_ms=setting.deadline_ms,
        seed=seed,
    )


def _rays(world: ForestWorld) -> Look:
    return lambda now: answer_of_rays(truth(world.forest, world.drone.x, world.drone.y), now)


def _network(world: ForestWorld, machine: Machine) -> Look:
    network = WholeNetwork(machine.bundle, machine.engine)

    def look(now: float) -> Answer:
        answer = answer_of(network.likely(world.camera()), now)
        assert answer is not None
        return answer

    return look
