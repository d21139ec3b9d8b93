"""Results and health as ROS 2 messages. It does not import ROS: the caller gives the message types.

The types take their fields by name, as those of rclpy do, and those of rosbags, which the tests use.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from spinn_client import Result

from .health import Health


@dataclass(frozen=True)
class Types:
    """Classes of vision_msgs, diagnostic_msgs, std_msgs and builtin_interfaces, under their own names."""

    Classification: Any
    ObjectHypothesis: Any
    DiagnosticArray: Any
    DiagnosticStatus: Any
    KeyValue: Any
    Header: Any
    Time: Any


def classification(types: Types, result: Result, now_ns: int, frame_id: str) -> Any:
    """A `vision_msgs/Classification` of one result, stamped with the time of its frame's capture.

    now_ns: when the result was given, in ns of the ROS clock. frame_id: the camera's. The result's own label comes
    first, then the rest of its top-k. A frame without an answer has no hypothesis.
    """
    best = [] if result.label is None else [(result.label, result.confidence or 0.0)]
    others = [(label, share) for label, share in result.top if label != result.label]
    hypotheses = [types.ObjectHypothesis(class_id=label, score=float(share)) for label, share in (*best, *others)]
    captured_ns = now_ns - round(result.age_ms * 1e6)
    return types.Classification(header=_header(types, captured_ns, frame_id), results=hypotheses)


def diagnostics(types: Types, health: Health, now_ns: int, name: str, source: str) -> Any:
    """A `diagnostic_msgs/DiagnosticArray` with one status. source: as it may be shown, without a password."""
    status = types.DiagnosticStatus(
        level=getattr(types.DiagnosticStatus, health.level),
        name=name,
        message=health.message,
        hardware_id=source,
        values=[types.KeyValue(key=key, value=value) for key, value in health.values.items()],
    )
    return types.DiagnosticArray(header=_header(types, now_ns, ""), status=[status])


def _header(types: Types, at_ns: int, frame_id: str) -> Any:
    seconds, nanoseconds = divmod(at_ns, 10**9)
    return types.Header(stamp=types.Time(sec=seconds, nanosec=nanoseconds), frame_id=frame_id)
