"""One client, one link and one server in virtual time: their own code, on another clock.

Networks, exits, codec, session, batcher, ledger, time-outs and reconnection are those of the real processes, and do
their real work. Only the times of steps (`costs`) and of the link (`link_model`) are numbers.
"""

from __future__ import annotations

import itertools
import random
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from spinn_client import DeviceConfig, Event, FeedConfig, LinkConfig, PlanChanged, Result, Stream
from spinn_client.parts import Parts
from spinn_client.steering.guide import Asked
from spinn_server.work.scheduler import BatchLimits
from spinn_stream.bundle import Bundle
from spinn_stream.frame import Pixels
from spinn_stream.plan import Plan
from spinn_stream.repeat import DEFAULT_AUDIT_RATE
from spinn_stream.runtime import Engine
from spinn_stream.trace import Trace

from .feed import VirtualFeed
from .side import Side, host_of
from .virtual_loop import VirtualLoop, run_virtually
from .virtual_server import VirtualServer


@dataclass(frozen=True)
class System:
    """The system to simulate.

    server: None: the device is alone. deadline_ms, may_shorten, batch: as `spinn run` and `spinn serve` have them.
    trace: with every field (`Trace.filled`); None: a link without limits. It begins with the first frame.
    frames: number of pictures to play; not used with a camera. provisional: also give answers that are not confident
    enough. fps: None: each as soon as the one before was taken. one_camera: the pictures are a clip's, or a camera's.
    repeat, audit_rate: see `DeviceConfig`.
    """

    bundle: Bundle
    engine: Engine
    device: Side
    server: Side | None
    plan: Plan | Asked
    trace: Trace | None = None
    trace_offset_s: float = 0.0
    frames: int = 300
    fps: float | None = 30.0
    deadline_ms: float = 150.0
    one_camera: bool = False
    repeat: bool | None = None
    audit_rate: float = DEFAULT_AUDIT_RATE
    provisional: bool = False
    may_shorten: bool = False
    batch: BatchLimits = field(default_factory=BatchLimits)
    seed: int = 0


@dataclass
class Outcome:
    """The result of a simulation.

    results: final ones, with the time of each in seconds since the first frame. bytes: of the connections' streams over
    the link since then. server_ms: its engine's time for batches. audits, disagreed, exit_audits: see `State`. plans:
    time and reason of each; None: it was asked for.
    """

    results: list[tuple[float, Result]] = field(default_factory=list)
    captured: int = 0
    taken: int = 0
    dropped: Counter[str] = field(default_factory=Counter)
    bytes_up: int = 0
    bytes_down: int = 0
    server_ms: float = 0.0
    late: int = 0
    audits: int = 0
    disagreed: int = 0
    exit_audits: int = 0
    plans: list[tuple[float, Plan, str | None]] = field(default_factory=list)


def play(
    system: System, pictures: Sequence[Pixels], progress: Callable[[int], object] = lambda frames: None
) -> Outcome:
    """Simulate it to the end. The same system and pictures give the same outcome.

    Args:
        pictures: (H, W, 3) uint8 BGR each. progress: called with the final results so far.

    Raises:
        Stuck: a fault of the simulator.
    """
    done = itertools.count(1)

    def picture(frame: int) -> Pixels | None:
        return pictures[frame % len(pictures)] if frame < system.frames else None

    return play_camera(system, picture, lambda at, result: progress(next(done)) if result.kind == "final" else None)


def play_camera(
    system: System, picture: Callable[[int], Pixels | None], on_result: Callable[[float, Result], object]
) -> Outcome:
    """Simulate it with a camera whose pictures may depend on the answers.

    Args:
        picture: called `system.fps` times a second with a frame's number; None: no more pictures.
        on_result: gets every result, and the time in seconds since the first frame.

    Raises:
        Stuck: a fault of the simulator.
    """
    loop = VirtualLoop()
    return run_virtually(loop, _main(loop, system, picture, on_result))


async def _main(
    loop: VirtualLoop,
    system: System,
    picture: Callable[[int], Pixels | None],
    observe: Callable[[float, Result], object],
) -> Outcome:
    outcome = Outcome()
    bundle = system.bundle
    host = host_of(loop, bundle, system.device, random.Random(f"{system.seed}/device"))
    server = None
    if system.server is not None:
        server = VirtualServer(
            loop,
            bundle,
            system.engine,
            system.server,
            batch=system.batch,
            trace=system.trace,
            offset_s=system.trace_offset_s,
            seed=system.seed,
        )
        server.start()
    began = 0.0

    def begin() -> None:
        nonlocal began
        began = loop.time()
        if server is not None:
            server.begin(began)

    def on_result(result: Result) -> None:
        at = loop.time() - began
        if result.kind == "final":
            outcome.results.append((at, result))
        observe(at, result)

    def on_event(event: Event) -> None:
        if isinstance(event, PlanChanged):
            outcome.plans.append((max(0.0, event.at - began) if began else 0.0, event.plan, event.reason))

    link = LinkConfig("ws://virtual", allow_offline=True, may_shorten=system.may_shorten)
    feed = VirtualFeed(picture, system.fps, loop.clock, begin, system.one_camera)
    stream = Stream(
        "pictures",
        server=None if server is None else link,
        deadline_ms=system.deadline_ms,
        plan=system.plan,
        provisional=system.provisional,
        feed=FeedConfig(unpaced=True) if system.fps is None else FeedConfig(fps=system.fps),
        device=DeviceConfig(bundle, repeat=system.repeat, audit_rate=system.audit_rate),
        on_result=on_result,
        on_event=on_event,
        parts=Parts(
            host=host,
            dial=None if server is None else server.network.dial,
            rng=random.Random(f"{system.seed}/backoff"),
            engine=(system.engine, system.device.profile.slowed(system.device.slowdown)),
            feed=lambda: feed,
        ),
    )
    try:
        async with stream:
            await stream.ended()
            if stream.error is not None:
                raise stream.error
            state = stream.state
    finally:
        if server is not None:
            outcome.bytes_up, outcome.bytes_down = server.delivered_bytes()
            outcome.server_ms = server.compute_ms()
            await server.stop()
    outcome.captured, outcome.taken, outcome.dropped = state.captured, state.taken, Counter(state.dropped)
    outcome.late, outcome.audits, outcome.disagreed = state.late, state.audits, state.disagreed
    outcome.exit_audits = state.exit_audits
    return outcome
