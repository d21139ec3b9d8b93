"""What runs on a cluster. Without Ray: its settings are read from the environment when it is imported."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from spinn_server.server import ServerConfig


@dataclass(frozen=True)
class ClusterConfig:
    """What runs on the cluster. Every machine has the bundle at the same path.

    secret: that ingresses show to replicas. threads: of each replica's engine; as many processors are reserved for it.
    replicas, most_replicas: there are at least and at most as many. ingresses: a fixed number.
    """

    bundle: Path
    secret: str = field(repr=False)
    server: ServerConfig = field(default_factory=ServerConfig)
    runtime: str = "auto"
    threads: int = 1
    replicas: int = 1
    most_replicas: int = 1
    ingresses: int = 1

    @property
    def app(self) -> str:
        """Name of the application on Ray Serve: one for each path."""
        return "spinn" + self.server.front.path_prefix.replace("/", "-")

    def __post_init__(self) -> None:
        if not 1 <= self.replicas <= self.most_replicas or self.ingresses < 1 or self.threads < 1:
            raise ValueError(
                "expected 1 <= replicas <= most replicas, ingresses >= 1 and threads >= 1, got "
                f"{self.replicas}, {self.most_replicas}, {self.ingresses}, {self.threads}"
            )
