"""Results made up for the tests of this room."""

from __future__ import annotations

from typing import Any

from spinn_client.frames.results import Result


def result(frame: int = 0, **other: Any) -> Result:
    """A final answer of the server's, but for what is given."""
    values: dict[str, Any] = {
        "kind": "final", "label": "tabby", "confidence": 0.5, "exit": "final", "where": "server",
        "reason": "final_exit", "age_ms": 40.0, "plan": 1,
    }  # fmt: skip
    return Result(frame, **values | other)
