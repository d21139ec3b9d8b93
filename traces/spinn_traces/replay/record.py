"""The settings of a run and its results, the same for real processes and for the simulator."""

from __future__ import annotations

import hashlib
import itertools
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

import numpy as np

from spinn_stream.trace import Trace

VERSION = 1
"""Version of the JSON form; runs in files of another version are done again."""


@dataclass(frozen=True)
class TraceUse:
    """A trace and its figures, as in `spinn trace info`.

    file: as given. content: SHA-256 of the samples that are played, assumptions included.
    """

    file: str
    name: str
    content: str
    format: str
    duration_s: float
    up_mbps: float | None
    down_mbps: float | None
    rtt_ms: float | None
    longest_outage_s: float | None
    assumed: tuple[str, ...]


@dataclass(frozen=True)
class RunSpec:
    """One run: a trace, a policy, a repeat, and all other settings.

    policy: its text form (`policy.parse_policy`). repeat: from 0. source: what `spinn run --source` takes;
    source_content: equal for equal sources; source_name: for people. truth: `labels` of the images, or the answers of
    the `whole network`. fps: None: the source's own. offset_s: start of the run in the trace.
    bundle: its folder. seed: of the shaper's jitter and losses, of the order of labelled images and the simulator.
    """

    trace: TraceUse
    policy: str
    repeat: int
    source: str
    source_name: str
    source_content: str
    truth: str
    fps: float | None
    deadline_ms: float
    duration_s: float
    offset_s: float
    device_slowdown: float
    seed: int
    bundle: str
    bundle_hash: str
    runtime: str
    pinned: bool
    simulate: bool

    @property
    def key(self) -> str:
        """Equal for two specs of the same settings, wherever the files are. 64 hexadecimal digits."""
        asked = asdict(self)
        for place in ("source", "source_name", "bundle"):
            del asked[place]
        asked["trace"] = self.trace.content
        return hashlib.sha256(json.dumps(asked, sort_keys=True).encode()).hexdigest()


@dataclass(frozen=True)
class Machine:
    """The machine of a run. client_core, server_core: None: not pinned. engine: of both ends."""

    processor: str
    cores: int
    system: str
    python: str
    version: str
    engine: str
    client_core: int | None
    server_core: int | None


@dataclass(frozen=True)
class Finals:
    """The final result of every frame that was taken in during the run: columns, in the order of their capture.

    captured_s: from the begin of the run, which is `offset_s` in the trace. correct: None: the right answer is not
    known; False for a frame without an answer. The others are as in docs/results.md.
    """

    frame: tuple[int, ...]
    captured_s: tuple[float, ...]
    age_ms: tuple[float, ...]
    label: tuple[str | None, ...]
    confidence: tuple[float | None, ...]
    exit: tuple[str | None, ...]
    where: tuple[str | None, ...]
    reason: tuple[str, ...]
    plan: tuple[int, ...]
    correct: tuple[bool | None, ...]

    def __post_init__(self) -> None:
        lengths = {f.name: len(getattr(self, f.name)) for f in fields(self)}
        if len(set(lengths.values())) != 1:
            raise ValueError(f"columns have the lengths {lengths}, expected one length")
        if any(b <= a for a, b in itertools.pairwise(self.frame)):
            raise ValueError("frames do not rise")

    def __len__(self) -> int:
        return len(self.frame)


@dataclass(frozen=True)
class PlanUse:
    """A plan, from its first frame on. codec: None: nothing is sent. why: None: not known."""

    at_s: float
    id: int
    split: str
    threshold: float | None
    codec: str | None
    why: str | None = None


@dataclass(frozen=True)
class LinkSeries:
    """The imposed link, in successive windows from the run's begin: means of Mb/s, and the round trip in ms."""

    window_s: float
    up_mbps: tuple[float, ...]
    down_mbps: tuple[float, ...]
    rtt_ms: tuple[float, ...]


@dataclass(frozen=True)
class RunRecord:
    """The results of a run.

    captured: frames that the source gave from the first to the last one taken in; taken: len(finals). dropped_by: drops
    by reason over the client's whole life, which is a little longer than the run. bytes: of the TCP streams over the
    link, during the run. server_compute_ms: engine time of the server during the run.
    """

    spec: RunSpec
    machine: Machine
    finals: Finals
    captured: int
    dropped_by: Mapping[str, int]
    plans: tuple[PlanUse, ...]
    bytes_up: int
    bytes_down: int
    server_compute_ms: float
    link: LinkSeries

    @property
    def taken(self) -> int:
        return len(self.finals)

    def as_json(self) -> dict[str, Any]:
        """As `from_json` reads it."""
        return {"version": VERSION, **asdict(self), "dropped_by": dict(self.dropped_by)}

    @classmethod
    def from_json(cls, value: Any) -> RunRecord:
        """The record in the output of `as_json`, after JSON.

        Raises:
            ValueError: it is not a record, or of another version.
        """
        try:
            if value["version"] != VERSION:
                raise ValueError(f"version {value['version']}, expected {VERSION}")
            spec = dict(value["spec"])
            trace = dict(spec.pop("trace"))
            link = dict(value["link"])
            return cls(
                spec=RunSpec(trace=TraceUse(**{**trace, "assumed": tuple(trace["assumed"])}), **spec),
                machine=Machine(**value["machine"]),
                finals=Finals(**{name: tuple(column) for name, column in value["finals"].items()}),
                captured=int(value["captured"]),
                dropped_by={str(k): int(v) for k, v in value["dropped_by"].items()},
                plans=tuple(PlanUse(**plan) for plan in value["plans"]),
                bytes_up=int(value["bytes_up"]),
                bytes_down=int(value["bytes_down"]),
                server_compute_ms=float(value["server_compute_ms"]),
                link=LinkSeries(float(link.pop("window_s")), **{name: tuple(column) for name, column in link.items()}),
            )
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"not the record of a run: {error!r:.100}") from error


def content_of(trace: Trace) -> str:
    """SHA-256 of the samples that a trace plays."""
    filled = trace.filled()
    digest = hashlib.sha256(np.float64(filled.duration_s).tobytes())
    for values in (filled.times_s, *(filled.values(name) for name in filled.recorded)):
        digest.update(values.tobytes())
    return digest.hexdigest()


def link_series(trace: Trace, offset_s: float, duration_s: float) -> LinkSeries:
    """What a trace imposes from `offset_s` on, in windows of a second."""
    filled = trace.filled()
    count = max(1, int(np.ceil(duration_s - 1e-9)))
    edges = [offset_s + k for k in range(count + 1)]

    def mbps(name: str) -> tuple[float, ...]:
        return tuple(filled.bytes_between(name, a, b) / 125_000 for a, b in itertools.pairwise(edges))

    rtt = tuple(filled.value("rtt_ms", edge + 0.5) for edge in edges[:-1])
    return LinkSeries(1.0, mbps("up_mbps"), mbps("down_mbps"), rtt)
