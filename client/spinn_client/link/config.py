"""Where a server is and how to talk to it. Light to load: what talks to it is loaded once there is a server."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class LinkConfig:
    """Where the server is and how to talk to it."""

    url: str  # ws://host:port or wss://host:port
    token: str | None = None
    tls_ca: Path | None = None  # certificate authority to trust besides the system's
    max_in_flight: int = 16  # requests without an answer; the server may allow fewer
    allow_offline: bool = False  # begin alone if the server cannot be reached

    def __post_init__(self) -> None:
        if not 1 <= self.max_in_flight <= 1000:
            raise ValueError(f"max_in_flight is {self.max_in_flight}, expected 1 to 1000")
