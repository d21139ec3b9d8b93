"""Figures for an operator, in Prometheus' format."""

from __future__ import annotations

from functools import cache

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from spinn_stream.wire.messages import REJECT_REASONS

REQUEST_REASONS = REJECT_REASONS - {"cancelled"}

_FEW_SECONDS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.5)
_SECONDS = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5)


class Metrics:
    """One server's counters. A registry of its own, so that two servers in one process do not mix.

    Requests add up: `spinn_requests` = `spinn_answers` + `spinn_rejects` + `spinn_cancelled` + `spinn_abandoned` +
    `spinn_open_requests`.
    """

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        r = self.registry
        self.sessions = Gauge("spinn_sessions", "Clients connected and welcomed", registry=r)
        self.refused_sessions = Counter(
            "spinn_refused_sessions", "Sessions ended by us, by reason", ["reason"], registry=r
        )
        self.connections = Gauge("spinn_connections", "Open sockets", registry=r)
        self.refused_connections = Counter(
            "spinn_refused_connections", "Connections that became no session, by reason", ["reason"], registry=r
        )
        self.requests = Counter(
            "spinn_requests", "Requests received, by bundle and split", ["bundle", "split"], registry=r
        )
        self.answers = Counter("spinn_answers", "Requests answered, by bundle and exit", ["bundle", "exit"], registry=r)
        self.rejects = Counter("spinn_rejects", "Requests refused or dropped, by reason", ["reason"], registry=r)
        self.cancelled = Counter("spinn_cancelled", "Requests taken back by their client", registry=r)
        self.abandoned = Counter("spinn_abandoned", "Requests whose client left before an answer", registry=r)
        self.shortened = Counter(
            "spinn_shortened", "Answers by an earlier exit than asked for, because of overload", registry=r
        )
        self.open = Gauge("spinn_open_requests", "Requests received and without an outcome", registry=r)
        self.queue = Gauge(
            "spinn_queue_requests", "Requests that wait for an engine, by bundle", ["bundle"], registry=r
        )
        self.batch_size = Histogram(
            "spinn_batch_size", "Requests in one step", buckets=(1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 64), registry=r
        )
        self.joined = Counter("spinn_joined", "Requests that ran with others of another split", registry=r)
        self.wait = Histogram("spinn_queue_wait_seconds", "From arrival to an engine", buckets=_SECONDS, registry=r)
        self.compute = Histogram("spinn_batch_compute_seconds", "Engine time of one step", buckets=_SECONDS, registry=r)
        self.segment = Histogram(
            "spinn_segment_seconds", "Engine time of one step, by bundle and segment", ["bundle", "segment"],
            buckets=_FEW_SECONDS, registry=r,
        )  # fmt: skip
        self.rows = Counter(
            "spinn_segment_requests", "Requests in steps, by bundle and segment", ["bundle", "segment"], registry=r
        )
        self.total = Histogram("spinn_answer_seconds", "From arrival to the answer", buckets=_SECONDS, registry=r)
        self.fused = Gauge(
            "spinn_fused_graphs", "Graphs longer than a segment that are held, by bundle", ["bundle"], registry=r
        )
        self.held_bytes = Gauge(
            "spinn_reference_bytes", "Memory of activations that clients' next payloads may refer to, by bundle",
            ["bundle"], registry=r,
        )  # fmt: skip
        self.lag = Histogram(
            "spinn_loop_lag_seconds", "How late the event loop comes to a timer", buckets=_SECONDS, registry=r
        )
        self.tasks = Gauge("spinn_tasks", "Tasks of the event loop", registry=r)
        for reason in REQUEST_REASONS:  # a rate needs a first value
            self.rejects.labels(reason)
        self.bytes_in = Counter("spinn_received_bytes", "Message bytes received", registry=r)
        self.bytes_out = Counter("spinn_sent_bytes", "Message bytes sent", registry=r)
        # `labels` takes microseconds, and every request needs both of these
        self.received_by, self.answered_by = cache(self.requests.labels), cache(self.answers.labels)

    def text(self) -> bytes:
        return generate_latest(self.registry)
