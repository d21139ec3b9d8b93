"""`spinn plan`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from spinn_stream.bundle import DEFAULT_BUNDLE, Bundle, load_bundle
from spinn_stream.errors import ConfigError
from spinn_stream.plan import (
    DEFAULT_SLA,
    Conditions,
    Decision,
    EnergyRates,
    LinkState,
    Plan,
    Prediction,
    Scheduler,
    build_table,
    parse_sla,
    policy,
    predict,
)
from spinn_stream.plan.change.choice import choose, violations
from spinn_stream.profile import Profile
from spinn_stream.runtime.choice import choose_engine, open_engine
from spinn_stream.runtime.measure.profiler import stored_profile

from .options import Threads, plain_console, read_threads
from .plan_explained import RunnerUp, bound_in_words, pareto, runner_up

FRONT = ("latency_ms", "accuracy")
"""The Pareto front is of these; the picture has them as its axes."""

MOST_ROWS = 15
"""Of the table; the picture has all."""


def plan(
    bandwidth_mbps: Annotated[float, typer.Option(help="capacity to the server, Mb/s; 0: there is no server")],
    rtt_ms: Annotated[float, typer.Option(help="round trip of an empty message")] = 0.0,
    sla: Annotated[str, typer.Option(help="the goal: constraints and targets")] = DEFAULT_SLA,
    policy_name: Annotated[
        str, typer.Option("--policy", help="spinn, device-only, server-only, neurosurgeon, edgent or dyno")
    ] = "spinn",
    fps: Annotated[float, typer.Option(help="frames a second of the source")] = 30.0,
    deadline_ms: Annotated[float | None, typer.Option(help="age by which every frame is answered")] = None,
    device_slowdown: Annotated[float, typer.Option(help="the device takes K times as long as this machine")] = 1.0,
    device_load: Annotated[float, typer.Option(help="busy device: K times as long as its profile")] = 1.0,
    server_load: Annotated[float, typer.Option(help="busy server: K times as long as its profile")] = 1.0,
    server_queue_ms: Annotated[float, typer.Option(help="how long requests wait at the server")] = 0.0,
    bundle: Annotated[Path, typer.Option(help="folder of the bundle", show_default="built in")] = DEFAULT_BUNDLE,
    runtime: Annotated[str, typer.Option(help="auto, onnxruntime, openvino or torch")] = "auto",
    threads: Threads = "auto",
    device_profile: Annotated[Path | None, typer.Option(help="the device's, from `spinn profile --json`")] = None,
    server_profile: Annotated[Path | None, typer.Option(help="the server's; without, this machine's")] = None,
    explain: Annotated[bool, typer.Option("--explain", help="also the runner-up and the Pareto front")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="print one JSON object")] = False,
    plot: Annotated[Path | None, typer.Option(help="draw all plans and the front here (png, svg or pdf)")] = None,
    debug: Annotated[bool, typer.Option("--debug", help="show tracebacks")] = False,
) -> None:
    """Say where to split a frame on a link like this, how careful exits are, and how to code the rest."""
    from .plan_plot import check_drawable, draw_plans

    wanted, chooses = parse_sla(sla), policy(policy_name)
    try:
        link = LinkState(bandwidth_mbps, rtt_ms) if bandwidth_mbps != 0 else None
        now = Conditions(
            link, device_load=device_slowdown * device_load, server_load=server_load,
            server_queue_ms=server_queue_ms, fps=fps, deadline_ms=deadline_ms,
        )  # fmt: skip
    except ValueError as error:
        raise ConfigError(str(error)) from error
    if plot is not None:
        check_drawable(plot)
    model = load_bundle(bundle)
    count = read_threads(threads)
    device, server = _profiles(model, runtime, count, device_profile, server_profile)
    try:
        table = build_table(model, device, server)
    except ValueError as error:
        raise ConfigError(str(error)) from error
    rates = EnergyRates.of_cores(count)
    scheduler = Scheduler(model, table, wanted, chooses=chooses, rates=rates)
    decision = scheduler.choose(now)
    predicted, asked = scheduler.predict(now)
    second = runner_up(predicted, asked, choose(predicted, asked))
    everything = predict(table, now, rates)
    front = pareto(everything, FRONT)
    if plot is not None:
        draw_plans(model, everything, front, decision, plot)
    if as_json:
        shown = front if explain else None
        print(json.dumps(_object(model, everything, decision, second, str(wanted), policy_name, shown)))
        return
    console = plain_console()
    _show(console, model, decision, str(wanted), policy_name)
    if explain:
        _explain(console, model, decision, second)
        kept = violations(everything, asked.constraints) <= 0
        _show_front(console, model, everything, [int(i) for i in front], kept.tolist())


def _profiles(
    bundle: Bundle, runtime: str, threads: int, device: Path | None, server: Path | None
) -> tuple[Profile, Profile]:
    """The profiles of the files that were given, or this machine's."""
    read = [None if path is None else _read(path) for path in (device, server)]
    if None not in read:
        assert read[0] is not None and read[1] is not None
        return read[0], read[1]
    errors = plain_console(stderr=True)

    def say(text: str) -> None:
        errors.print(text, soft_wrap=True)

    name = runtime if runtime != "auto" else choose_engine(bundle, threads=threads, say=say).order[0]
    engine = open_engine(bundle, name, threads=threads, warn=say)
    here = stored_profile(bundle, engine, threads=threads, say=say)
    return read[0] or here, read[1] or here


def _read(path: Path) -> Profile:
    """The profile in what `spinn profile --json` printed, or a bare profile."""
    try:
        found = json.loads(path.read_text())
        return Profile.from_json(found.get("profile", found) if isinstance(found, dict) else found)
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path} is no profile: {error}; expected what `spinn profile --json` prints") from error


def plan_words(bundle: Bundle, plan: Plan) -> str:
    threshold = "no exit" if plan.confidence_threshold is None else f"{plan.confidence_threshold:g}"
    return f"{bundle.cut_points[plan.split].name}, {threshold}, {plan.codec or '-'}"


def _plan_object(bundle: Bundle, plan: Plan) -> dict[str, Any]:
    return {
        "split": bundle.cut_points[plan.split].name,
        "split_index": plan.split,
        "threshold": plan.confidence_threshold,
        "codec": None if plan.codec is None else str(plan.codec),
    }


def _object(
    bundle: Bundle, everything: Prediction, decision: Decision, second: RunnerUp | None, sla: str, policy_name: str,
    front: Any | None,
) -> dict[str, Any]:  # fmt: skip
    bound = decision.binding
    found: dict[str, Any] = {
        "bundle": bundle.hash,
        "policy": policy_name,
        "sla": sla,
        "plans": len(everything.table),
        "feasible": decision.feasible,
        "plan": _plan_object(bundle, decision.plan),
        "predicted": decision.figures.as_json(),
        "binding": None
        if bound is None
        else {"constraint": str(bound.constraint), "value": bound.value, "over": bound.over, "gain": bound.gain},
        "runner_up": None
        if second is None
        else {"plan": _plan_object(bundle, second.plan), "predicted": second.figures.as_json(), "why": second.why},
        "reason": decision.reason,
    }
    if front is not None:
        found["front"] = [
            {**_plan_object(bundle, everything.table.plan(int(i))), **everything.figures(int(i)).as_json()}
            for i in front
        ]
    return found


def _show(console: Console, bundle: Bundle, decision: Decision, sla: str, policy_name: str) -> None:
    figures = decision.figures
    console.print(f"{policy_name}: {sla}", soft_wrap=True)
    table = Table(show_header=False, box=None, padding=(0, 2))
    plan = decision.plan
    threshold = "no early exit answers" if plan.confidence_threshold is None else f"{plan.confidence_threshold:g}"
    for name, value in (
        ("split", f"{bundle.cut_points[plan.split].name} ({plan.split} of {bundle.last})"),
        ("threshold", threshold),
        ("codec", "nothing is sent" if plan.codec is None else str(plan.codec)),
        ("latency", f"{figures.latency_ms:.1f} ms on average, 95 % within {figures.latency_p95_ms:.1f} ms"),
        ("throughput", f"{figures.throughput_fps:.1f} answers a second"),
        ("accuracy", f"{100 * figures.accuracy:.2f} %, {100 * figures.accuracy_drop:.2f} points lost"),
        ("uplink", f"{figures.bytes_up:.0f} bytes a frame, {figures.uplink / 1000:.1f} kB/s"),
        ("server", f"{figures.server_cost:.2f} ms a frame"),
        ("energy", f"{figures.device_energy:.1f} mJ a frame on the device (an estimate)"),
    ):
        table.add_row(Text(name, "bold"), value)
    console.print(table)
    if not decision.feasible:
        console.print("no plan keeps all constraints; this one breaks them least", style="bold red")


BINDING = Text("binding   ", "bold")


def _explain(console: Console, bundle: Bundle, decision: Decision, second: RunnerUp | None) -> None:
    if decision.binding is not None:
        console.print(BINDING, bound_in_words(decision.binding))
        if decision.binding.gain > 0:
            console.print(f"           without it the first target would be {decision.binding.gain:.3g} better")
    else:
        console.print(BINDING, "no constraint: the plan would be as good without any of them")
    if second is not None:
        console.print(Text("runner-up ", "bold"), f"{plan_words(bundle, second.plan)}: {second.why}")


def _show_front(console: Console, bundle: Bundle, everything: Prediction, front: list[int], kept: list[bool]) -> None:
    shown = front
    if len(front) > MOST_ROWS:
        shown = [front[round(i * (len(front) - 1) / (MOST_ROWS - 1))] for i in range(MOST_ROWS)]
    title = f"Pareto front of latency and accuracy, {len(shown)} of {len(front)} plans"
    table = Table(title=title, title_justify="left", box=None, padding=(0, 1))
    for name in ("split, threshold, codec", "ms", "95 %", "fps", "accuracy", "kB/s", "server ms", "kept"):
        table.add_column(name, justify="left" if "," in name else "right", no_wrap=True)
    for i in shown:
        f = everything.figures(i)
        table.add_row(
            plan_words(bundle, everything.table.plan(i)), f"{f.latency_ms:.1f}", f"{f.latency_p95_ms:.1f}",
            f"{f.throughput_fps:.1f}", f"{100 * f.accuracy:.2f}", f"{f.uplink / 1000:.1f}",
            f"{f.server_cost:.2f}", "yes" if kept[i] else "",
        )  # fmt: skip
    console.print(table)
