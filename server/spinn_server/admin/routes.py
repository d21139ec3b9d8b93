"""Answers to plain HTTP: a table from path to handler."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from http import HTTPStatus

from prometheus_client import CONTENT_TYPE_LATEST

from .health import Health
from .metrics import Metrics

SESSIONS = "/"
"""The path at which sessions begin; every other path is looked up in the table."""


@dataclass(frozen=True)
class HttpAnswer:
    """Status, body and its type."""

    status: HTTPStatus
    body: str
    content_type: str = "text/plain; charset=utf-8"


Routes = Mapping[str, Callable[[], HttpAnswer]]


def routes(health: Health, metrics: Metrics) -> Routes:
    """/healthz: the process lives. /readyz: it takes requests, or 503 and why not. /metrics: for Prometheus."""

    def alive() -> HttpAnswer:
        return HttpAnswer(HTTPStatus.OK, "ok\n")

    def ready() -> HttpAnswer:
        return HttpAnswer(HTTPStatus.OK, "ok\n") if health.ready else unavailable(health.text)

    def figures() -> HttpAnswer:
        return HttpAnswer(HTTPStatus.OK, metrics.text().decode(), CONTENT_TYPE_LATEST)

    return {"/healthz": alive, "/readyz": ready, "/metrics": figures}


def look_up(table: Routes, path: str) -> HttpAnswer:
    """The answer for a path; 404 if there is none in the table."""
    handler = table.get(path)
    if handler is None:
        return HttpAnswer(HTTPStatus.NOT_FOUND, f"expected {', '.join([SESSIONS, *table])}\n")
    return handler()


def unavailable(why: str) -> HttpAnswer:
    """503, and why."""
    return HttpAnswer(HTTPStatus.SERVICE_UNAVAILABLE, f"{why}\n")
