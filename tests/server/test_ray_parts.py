"""What runs on Ray, as far as it is known without it: how many replicas there should be, and what cannot be started."""

from __future__ import annotations

import socket
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from spinn_server.ray import start
from spinn_server.ray.config import ClusterConfig
from spinn_server.ray.policy import scale, wanted
from spinn_server.server import ServerConfig


@pytest.mark.parametrize(
    ("current", "busy", "queue_ms", "expected"),
    [
        (2, [0.7, 0.7], [0, 0], 2),  # as busy as it should be
        (2, [0.9, 0.9], [5, 5], 3),  # 1.8 engines' work at 0.7 each: 2.6
        (4, [0.1, 0.1, 0.2, 0.2], [0, 0, 0, 0], 1),  # 0.6 engines' work
        (2, [0.5, 0.5], [80, 10], 3),  # they seem idle, but requests wait
        (2, [], [], 2),  # nobody has reported
        (9, [1.0] * 9, [500] * 9, 10),  # 12.9 are wanted, 10 are allowed
        (1, [0.0], [0], 1),  # at least one
    ],
)
def test_the_number_of_replicas_follows_their_load(
    current: int, busy: list[float], queue_ms: list[float], expected: int
) -> None:
    assert wanted(current, busy, queue_ms, 1, 10) == expected


def test_the_policy_reads_what_replicas_record() -> None:
    ctx = SimpleNamespace(
        aggregated_metrics={"busy": {"a": 0.9, "b": 0.9}, "queue_ms": {"a": 5.0, "b": 5.0}},
        current_num_replicas=2,
        capacity_adjusted_min_replicas=1,
        capacity_adjusted_max_replicas=10,
    )
    assert scale(ctx) == (3, {})
    ctx.aggregated_metrics = None
    assert scale(ctx) == (2, {})


def test_without_ray_it_is_said_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(start, "USUAL", {})
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(start.RayError, match=r"--ray needs Ray .*pip install 'spinn-server\[ray\]'"):
        start.serve_until_signal(ClusterConfig(Path("bundle"), "sesame"))


def test_a_port_that_another_ray_has_is_named_before_anything_starts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(start, "USUAL", {})
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setitem(sys.modules, "ray", SimpleNamespace(serve=None))
    with socket.create_server(("0.0.0.0", 0)) as other:
        port = other.getsockname()[1]
        monkeypatch.setenv("RAY_SERVE_HAPROXY_STATS_PORT", str(port))
        with pytest.raises(start.RayError, match=f"port {port} cannot be had .*RAY_SERVE_HAPROXY_STATS_PORT names"):
            start.serve_until_signal(ClusterConfig(Path("bundle"), "sesame", ServerConfig(port=0)))


def test_a_cluster_s_configuration_is_checked_and_does_not_show_its_secret() -> None:
    assert "sesame" not in repr(ClusterConfig(Path("bundle"), "sesame"))
    for wrong in ({"replicas": 0}, {"replicas": 3, "most_replicas": 2}, {"ingresses": 0}, {"threads": 0}):
        with pytest.raises(ValueError, match="expected 1 <= replicas <= most replicas"):
            ClusterConfig(Path("bundle"), "sesame", **wrong)  # type: ignore[arg-type]
