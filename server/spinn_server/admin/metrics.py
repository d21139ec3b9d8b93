"""What an operator watches, in Prometheus' format."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

_SECONDS = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5)


class Metrics:
    """One server's counters. A registry of its own, so that two servers in one process do not mix."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        r = self.registry
        self.sessions = Gauge("spinn_sessions", "Clients connected and welcomed", registry=r)
        self.refused_sessions = Counter(
            "spinn_refused_sessions", "Sessions ended by us, by reason", ["reason"], registry=r
        )
        self.requests = Counter("spinn_requests", "Requests admitted, by split", ["split"], registry=r)
        self.results = Counter("spinn_results", "Answers sent, by exit", ["exit"], registry=r)
        self.rejects = Counter("spinn_rejects", "Requests refused or dropped, by reason", ["reason"], registry=r)
        self.queue = Gauge("spinn_queue_requests", "Requests waiting for a batch", registry=r)
        self.batch_size = Histogram(
            "spinn_batch_size", "Requests run together", buckets=(1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 64), registry=r
        )
        self.wait = Histogram("spinn_queue_wait_seconds", "From arrival to an engine", buckets=_SECONDS, registry=r)
        self.compute = Histogram(
            "spinn_batch_compute_seconds", "Engine time of one batch", buckets=_SECONDS, registry=r
        )
        self.fused = Gauge("spinn_fused_graphs", "Fused graphs held beside the basic ones", registry=r)
        self.held_bytes = Gauge(
            "spinn_reference_bytes", "Memory of activations that clients' next payloads may refer to", registry=r
        )
        self.bytes_in = Counter("spinn_received_bytes", "Message bytes received", registry=r)
        self.bytes_out = Counter("spinn_sent_bytes", "Message bytes sent", registry=r)

    def text(self) -> bytes:
        return generate_latest(self.registry)
