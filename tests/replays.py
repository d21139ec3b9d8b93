"""Records of runs for tests, made up: no process runs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from spinn_stream.bundle import Bundle, load_bundle
from spinn_traces.replay.record import Finals, LinkSeries, Machine, PlanUse, RunRecord, RunSpec, TraceUse

from .bundles import LITE2_200

MACHINE = Machine("a processor", 2, "Linux", "3.11", "0.1.0", "onnxruntime", 0, 1)


def trace_use(name: str = "drive.csv", content: str = "c0", **other: Any) -> TraceUse:
    said: dict[str, Any] = {
        "file": f"somewhere/{name}", "name": name, "content": content, "format": "spinn-csv", "duration_s": 60.0,
        "up_mbps": 1.5, "down_mbps": 3.0, "rtt_ms": 40.0, "longest_outage_s": 2.0, "assumed": ("loss",),
    }  # fmt: skip
    return TraceUse(**{**said, **other})


def run_spec(bundle: Bundle | None = None, **other: Any) -> RunSpec:
    bundle = bundle or load_bundle(LITE2_200)
    said: dict[str, Any] = {
        "trace": trace_use(), "policy": "device-only", "repeat": 0, "source": "demo", "source_name": "demo",
        "source_content": "demo", "truth": "whole network", "fps": None, "deadline_ms": 150.0, "duration_s": 10.0,
        "offset_s": 0.0, "device_slowdown": 1.0, "seed": 0, "bundle": str(bundle.graph_path.parent),
        "bundle_hash": bundle.hash, "runtime": "auto", "pinned": True, "simulate": False,
    }  # fmt: skip
    return RunSpec(**{**said, **other})


def finals(ages_ms: Sequence[float], *, fps: float = 10.0, **other: Any) -> Finals:
    """A frame for each age, `fps` a second, all of them answered by the device's final exit."""
    count = len(ages_ms)
    said: dict[str, Any] = {
        "frame": tuple(range(count)), "captured_s": tuple(k / fps for k in range(count)), "age_ms": tuple(ages_ms),
        "label": ("tabby",) * count, "confidence": (0.9,) * count, "exit": ("final",) * count,
        "where": ("device",) * count, "reason": ("final_exit",) * count, "plan": (1,) * count,
        "correct": (True,) * count,
    }  # fmt: skip
    return Finals(**{**said, **other})


def run_record(spec: RunSpec, answers: Finals, **other: Any) -> RunRecord:
    seconds = max(1, round(spec.duration_s))
    record = RunRecord(
        spec=spec,
        machine=MACHINE,
        finals=answers,
        captured=answers.frame[-1] - answers.frame[0] + 1,
        dropped_by={},
        plans=(PlanUse(0.0, 1, "block7", 0.86, "transform:6"),),
        bytes_up=1_000_000,
        bytes_down=10_000,
        server_compute_ms=300.0,
        link=LinkSeries(1.0, (1.5,) * seconds, (3.0,) * seconds, (40.0,) * seconds),
    )
    return replace(record, **other)
