"""`spinn drone`."""

from __future__ import annotations

import logging
import math
import sys
import time
from pathlib import Path
from typing import Annotated

import typer

from spinn_drone.flight.lockstep import percentile_ms
from spinn_drone.flight.realtime import BUNDLE, Cut, LinkShape, RealFlight, Watcher, fly
from spinn_drone.flight.recording import load, save
from spinn_drone.flight.referee import Flight
from spinn_drone.flight.top_view import top_view
from spinn_drone.robot import DEADLINE_MS, GOAL
from spinn_drone.world.scene import Scene
from spinn_drone.world.world import Command
from spinn_stream.errors import ConfigError
from spinn_stream.plan import POLICIES, parse_sla

MOST_SEED = 2**31


def drone(
    seed: Annotated[int, typer.Option(help="decides the forest, its looks and the camera's noise")] = 1,
    policy: Annotated[str, typer.Option(help=", ".join(POLICIES))] = "spinn",
    no_server: Annotated[bool, typer.Option("--no-server", help="the drone answers alone")] = False,
    up_mbps: Annotated[float, typer.Option(help="capacity of the link towards the server")] = 8.0,
    down_mbps: Annotated[float, typer.Option(help="and back")] = 20.0,
    rtt_ms: Annotated[float, typer.Option(help="round trip of the link")] = 30.0,
    trace: Annotated[Path | None, typer.Option(help="a recorded network instead of these three")] = None,
    cut: Annotated[
        list[str] | None, typer.Option(help="AT:FOR, seconds from take-off: the link carries nothing; several times")
    ] = None,
    deadline_ms: Annotated[float, typer.Option(help="age by which every picture has its answer")] = DEADLINE_MS,
    sla: Annotated[str, typer.Option(help="goal of the policies that take one, as spinn run takes it")] = GOAL,
    device_slowdown: Annotated[float, typer.Option(help="the drone's computer takes K times as long")] = 1.0,
    page: Annotated[bool, typer.Option("--page", help="a live view in the browser, forest after forest")] = False,
    port: Annotated[int, typer.Option(help="of the page; 0: any free one")] = 8081,
    record: Annotated[Path | None, typer.Option(help="write the flight here, as JSON")] = None,
    replay: Annotated[Path | None, typer.Option(help="show a recorded flight instead of flying")] = None,
    bundle: Annotated[Path, typer.Option(help="folder of the network", show_default="the drone's own")] = BUNDLE,
    runtime: Annotated[str, typer.Option(help="of both ends: auto, onnxruntime, openvino or torch")] = "onnxruntime",
    debug: Annotated[bool, typer.Option("--debug", help="show tracebacks and what happens")] = False,
) -> None:
    """Fly a drone through a forest by camera alone, with a real server behind a link that you shape.

    The world, the server and the link are processes of their own. Prints how the flight ended, its speed, its smallest
    distance to a tree and the ages of the used answers. Ctrl-C ends it.
    """
    logging.basicConfig(stream=sys.stderr, level=logging.INFO if debug else logging.CRITICAL)
    if replay is not None:
        flight = load(replay)
        print(top_view(flight), said_of(flight), sep="\n\n")
        return
    if not 0 <= seed < MOST_SEED:
        raise ConfigError(f"--seed is {seed}, expected 0 to {MOST_SEED - 1}")
    if policy not in POLICIES:
        raise ConfigError(f"--policy is {policy!r:.40}, expected one of {', '.join(POLICIES)}")
    parse_sla(sla)
    for name, value in (("up-mbps", up_mbps), ("down-mbps", down_mbps)):
        if not 0 < value <= 100_000:
            raise ConfigError(f"--{name} is {value:g}, expected more than 0 and at most 100000")
    if not 0 <= rtt_ms <= 10_000:
        raise ConfigError(f"--rtt-ms is {rtt_ms:g}, expected 0 to 10000")
    if not 1 <= device_slowdown <= 1000:
        raise ConfigError(f"--device-slowdown is {device_slowdown:g}, expected 1 to 1000")
    if trace is not None and not trace.is_file():
        raise ConfigError(f"--trace {trace}: no such file")
    if record is not None and not record.absolute().parent.is_dir():
        raise ConfigError(f"--record {record}: there is no folder {record.absolute().parent}")
    cuts = tuple(Cut.parse(text) for text in cut or ())
    if cuts and no_server:
        raise ConfigError("--cut cuts the link to a server, and --no-server has none; give one of them")
    wanted = RealFlight(
        Scene(seed), policy, not no_server, LinkShape(up_mbps, down_mbps, rtt_ms, trace), cuts, deadline_ms,
        device_slowdown, runtime, bundle=bundle, goal=sla,
    )  # fmt: skip
    if page:
        _show(wanted, port)
        return
    flight = fly(wanted, _watcher())
    if record is not None:
        save(flight, record)
    print(top_view(flight), said_of(flight), sep="\n\n")


def _show(wanted: RealFlight, port: int) -> None:
    try:
        from spinn_drone.page.app import show
    except ImportError as error:
        raise ConfigError(
            f"the page needs packages that are not installed ({error.name}): pip install 'spinn-drone[page]'"
        ) from error
    show(wanted, port)


def said_of(flight: Flight) -> str:
    """How a flight ended, and its figures, in words."""
    how = f"{flight.ending} after {flight.seconds:.1f} s and {flight.metres:.0f} m"
    speed = flight.metres / flight.seconds if flight.seconds else 0.0
    lines = [f"Forest {flight.seed}: {how}, at {speed:.1f} m/s on average."]
    lines.append(f"The nearest tree was {max(flight.clearance_m, 0.0):.2f} m away from the hull.")
    if flight.ages_s:
        p50, p95 = percentile_ms(flight.ages_s, 50), percentile_ms(flight.ages_s, 95)
        lines.append(f"The answers that it acted on were {p50:.0f} ms old, 95 % of the time less than {p95:.0f} ms.")
    return "\n".join(lines)


def _watcher() -> Watcher:
    """Prints what happens, and once a second how the drone flies."""
    told = 0.0

    def command(command: Command, age: float) -> None:
        nonlocal told
        now = time.monotonic()
        if now - told >= 1:
            told = now
            speed = (command.forward**2 + command.left**2) ** 0.5
            by = "without an answer yet" if age == math.inf else f"by an answer {1000 * age:.0f} ms old"
            print(f"  told to fly {speed:3.1f} m/s {by}", flush=True)

    return Watcher(lambda text: print(text, flush=True), command)
