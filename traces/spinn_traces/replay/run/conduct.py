"""A whole replay: every trace under every policy, with repeats. Runs that are done already are not done again."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from spinn_client.sources.registry import open_source
from spinn_stream.bundle import Bundle
from spinn_stream.errors import ConfigError, SpinnError, TraceError
from spinn_stream.runtime import Engine
from spinn_stream.trace import MAX_DURATION_S, Trace
from spinn_traces.figures import figures
from spinn_traces.readers import read_trace
from spinn_traces.replay.machine import cores_for_pinning, this_machine
from spinn_traces.replay.policy import Policy
from spinn_traces.replay.record import Machine, RunRecord, RunSpec, TraceUse, content_of
from spinn_traces.replay.store import RunStore

from .material import Material, prepare
from .real_run import frames_to_play, run_real
from .reference import whole_network

FOLDER_FPS = 30.0
LABELS, WHOLE_NETWORK = "labels", "whole network"


@dataclass(frozen=True)
class ReplayConfig:
    """What `spinn replay` is asked for. fps: None: the source's own. seed: see `RunSpec`."""

    source: str
    traces: tuple[Path, ...]
    policies: tuple[Policy, ...]
    out: Path
    duration_s: float = 60.0
    repeats: int = 1
    fps: float | None = None
    deadline_ms: float = 150.0
    device_slowdown: float = 1.0
    offset_s: float = 0.0
    seed: int = 0
    runtime: str = "auto"
    pin: bool = True
    simulate: bool = False

    def __post_init__(self) -> None:
        bounds = {
            "duration-s": (self.duration_s, 1, 86_400),
            "repeats": (self.repeats, 1, 1000),
            "deadline-ms": (self.deadline_ms, 1, 600_000),
            "device-slowdown": (self.device_slowdown, 1, 1000),
            "offset": (self.offset_s, 0, MAX_DURATION_S),
            "fps": (FOLDER_FPS if self.fps is None else self.fps, 0.01, 1000),
            "seed": (self.seed, 0, 2**31),
        }
        for name, (value, least, most) in bounds.items():
            if not least <= value <= most:
                raise ConfigError(f"--{name} is {value:g}, expected {least:g} to {most:g}")
        if not self.traces:
            raise ConfigError("no trace is given: add --trace FILE, as often as there are traces")


@dataclass(frozen=True)
class Failure:
    """A run that gave no record, and why."""

    trace: str
    policy: str
    repeat: int
    why: str


@dataclass(frozen=True)
class Replay:
    """The results of a replay."""

    config: ReplayConfig
    bundle: Bundle
    material: Material
    machine: Machine
    fps: float
    notes: tuple[str, ...]
    records: tuple[RunRecord, ...]
    failures: tuple[Failure, ...]


@dataclass(frozen=True)
class Watcher:
    """Is told about the progress. say: a line. step: number of runs, share that is done, and the present work."""

    say: Callable[[str], None]
    step: Callable[[int, float, str], None]


def conduct(config: ReplayConfig, bundle: Bundle, engine: Engine, watcher: Watcher) -> Replay:
    """Do all runs that are not done yet.

    Raises:
        SpinnError: the source or a trace cannot be used. (A run that fails gives a `Failure`.)
    """
    readings = _read(config.traces)
    notes = _notes(config, readings)
    fps = config.fps or FOLDER_FPS
    count = frames_to_play(config.duration_s, config.deadline_ms, fps)
    material = prepare(config.source, bundle, config.out / "frames", count=count, seed=config.seed)
    if config.fps is None:
        source = open_source(material.source)
        source.close()
        fps = source.fps or FOLDER_FPS
        count = frames_to_play(config.duration_s, config.deadline_ms, fps)
    truth = material.truth
    if truth is None:
        watcher.say(f"{material.name} has no labels: asking the whole network once for each of its frames ...")
        kept = config.out / "whole-network.json"
        truth = whole_network(material, bundle, engine, count=count, kept=kept)
    cores = cores_for_pinning() if config.pin and not config.simulate else None
    machine = this_machine(engine.name, cores)
    store = RunStore(config.out / "runs", watcher.say)
    specs = _specs(config, readings, bundle, material, pinned=cores is not None)
    played = {use.content: trace for use, trace in readings}
    records, failures = [], []
    for at, spec in enumerate(specs):
        doing = f"{spec.trace.name}, {spec.policy}" + (f", {spec.repeat + 1}" if config.repeats > 1 else "")

        def progress(part: float, at: int = at, doing: str = doing) -> None:
            watcher.step(len(specs), at + min(1.0, part), doing)

        progress(0.0)
        record = store.load(spec)
        if record is None:
            try:
                if spec.simulate:
                    record = simulator()(spec, progress=progress)
                else:
                    record = run_real(spec, played[spec.trace.content], bundle, fps, machine, progress)
            except SpinnError as error:
                failures.append(Failure(spec.trace.name, spec.policy, spec.repeat, str(error)))
                watcher.say(f"{doing}: {error}")
                continue
            record = with_truth(record, truth)
            store.save(record)
        records.append(record)
    watcher.step(len(specs), len(specs), "done")
    return Replay(config, bundle, material, machine, fps, notes, tuple(records), tuple(failures))


def simulator() -> Callable[..., RunRecord]:
    """`simulate(spec, *, progress) -> RunRecord`, loaded when it is asked for."""
    from spinn_traces.simulator import simulate

    return simulate


def with_truth(record: RunRecord, truth: Sequence[str]) -> RunRecord:
    """Compare each answer with the right label of its frame, unless the run has done so."""
    finals = record.finals
    if any(c is not None for c in finals.correct):
        return record
    correct = tuple(label == truth[frame % len(truth)] for frame, label in zip(finals.frame, finals.label, strict=True))
    return replace(record, finals=replace(finals, correct=correct))


def _read(paths: Sequence[Path]) -> list[tuple[TraceUse, Trace]]:
    found: list[tuple[TraceUse, Trace]] = []
    for path in paths:
        reading = read_trace(path)
        said: dict[str, Any] = figures(reading, str(path))
        said["assumed"] = tuple(said["assumed"])
        use = TraceUse(name=path.name, content=content_of(reading.trace), **said)
        same = next((other for other, _ in found if other.content == use.content), None)
        if same is not None:
            raise TraceError(f"{path} plays the same as {same.file}; give each trace once")
        found.append((use, reading.trace))
    return found


def _notes(config: ReplayConfig, readings: Sequence[tuple[TraceUse, Trace]]) -> tuple[str, ...]:
    """What a reader of the report should know of the traces."""
    return tuple(
        f"{use.name} lasts {use.duration_s:g} s and begins again at its end"
        for use, _ in readings
        if use.duration_s < config.offset_s + config.duration_s
    )


def _specs(
    config: ReplayConfig,
    readings: Sequence[tuple[TraceUse, Trace]],
    bundle: Bundle,
    material: Material,
    *,
    pinned: bool,
) -> list[RunSpec]:
    """The runs, in an order in which changes of the machine meet every policy alike."""
    return [
        RunSpec(
            trace=use,
            policy=policy.text,
            repeat=repeat,
            source=material.source,
            source_name=material.name,
            source_content=material.content,
            truth=WHOLE_NETWORK if material.truth is None else LABELS,
            fps=config.fps,
            deadline_ms=config.deadline_ms,
            duration_s=config.duration_s,
            offset_s=config.offset_s,
            device_slowdown=config.device_slowdown,
            seed=config.seed,
            bundle=str(bundle.graph_path.parent),
            bundle_hash=bundle.hash,
            runtime=config.runtime,
            pinned=pinned,
            simulate=config.simulate,
        )
        for repeat in range(config.repeats)
        for use, _ in readings
        for policy in config.policies
    ]
