"""The state of camera and server, in the levels of `diagnostic_msgs/DiagnosticStatus`."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from spinn_client import State

Level = Literal["OK", "WARN", "ERROR", "STALE"]

SILENT_S = 5.0
"""Without a result for this time, the state is stale."""


@dataclass(frozen=True)
class Health:
    """level: a constant of DiagnosticStatus, by its name. message: one line. values: figures, as text."""

    level: Level
    message: str
    values: dict[str, str] = field(default_factory=dict)


def health_of(state: State | None, why_not: str, silent_s: float) -> Health:
    """state: None while no stream is open. why_not: the reason, or nothing yet. silent_s: since the last result."""
    if state is None:
        return Health("ERROR", why_not or "opening the source")
    values = {
        "link": state.link, "plan": state.plan_reason or "as asked", "captured": str(state.captured),
        "final": str(state.final), "device": str(state.device), "server": str(state.server),
        "fallback": str(state.fallback), "dropped": str(sum(state.dropped.values())),
        "load": f"{state.load:.2f}", "rtt_ms": "" if state.rtt_ms is None else f"{state.rtt_ms:.1f}",
    }  # fmt: skip
    if not state.source_up:
        return Health("ERROR", f"{state.source} gives no pictures", values)
    if silent_s > SILENT_S:
        return Health("STALE", f"no result for {silent_s:.0f} s", values)
    if state.link == "away":
        return Health("WARN", "the server is away: the device answers alone", values)
    return Health("OK", "answers come", values)
