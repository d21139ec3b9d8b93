"""Where a server is and how to talk to it. Light to load: what talks to it is loaded once there is a server."""

from __future__ import annotations

from collections.abc import Sequence
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
    warm: bool = False  # stay connected while a server that is preferred to this one is used
    may_shorten: bool = False  # if it is overloaded, it may answer at an earlier exit than the plan asks for
    max_fps: float | None = None  # frames a second that are sent at most; the device answers the others

    def __post_init__(self) -> None:
        if self.max_fps is not None and not 0.01 <= self.max_fps <= 1000:
            raise ValueError(f"max_offload_fps is {self.max_fps}, expected 0.01 to 1000")
        if not 1 <= self.max_in_flight <= 1000:
            raise ValueError(f"max_in_flight is {self.max_in_flight}, expected 1 to 1000")


def configs_of(server: str | LinkConfig | Sequence[str | LinkConfig] | None) -> tuple[LinkConfig, ...]:
    """One server or several, the preferred one first. Raises ValueError: the same address twice."""
    several = [] if server is None else [server] if isinstance(server, str | LinkConfig) else server
    configs = tuple(LinkConfig(one) if isinstance(one, str) else one for one in several)
    urls = [config.url for config in configs]
    twice = next((url for url in urls if urls.count(url) > 1), None)
    if twice is not None:
        raise ValueError(f"the server {twice} is given twice, expected each once")
    return configs
