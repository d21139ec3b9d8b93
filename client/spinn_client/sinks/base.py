"""What a sink is, and the sinks by the scheme of their URL. One is a file and a registration here."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Protocol

from spinn_client.events import Event
from spinn_client.frames.results import Result
from spinn_client.sources.names import shown
from spinn_stream.errors import ConfigError


class Sink(Protocol):
    """A place where answers go. Only `close` may wait for a slow place, for a limited time.

    It is made before the run. It raises then if its URL is wrong, but touches nothing that the URL names.
    """

    def begin(self, tell: Callable[[str], object]) -> None:
        """The run begins: open, create, connect. tell: takes a line for the user, from any thread."""

    def add(self, result: Result) -> None:
        """One result. Raises the place's failure, if it has failed; `ReaderGone`: nobody reads any more."""

    def event(self, event: Event) -> None:
        """One event."""

    def close(self, within_s: float) -> None:
        """Deliver what is left within that time. Raises the place's failure."""


_OPENERS: dict[str, str] = {}


def register_sink(scheme: str, opener: str) -> None:
    """Let `open_sink` know a scheme. opener: "module:function", called with what follows the colon of the URL."""
    _OPENERS[scheme] = opener


register_sink("jsonl", "spinn_client.sinks.jsonl:open_sink")
register_sink("mqtt", "spinn_client.sinks.mqtt:open_sink")
register_sink("mqtts", "spinn_client.sinks.mqtt:open_tls_sink")


def open_sink(url: str) -> Sink:
    """The sink that a URL names: `jsonl:FILE`, `mqtt://HOST/TOPIC`, or `-` for JSON lines on stdout.

    Raises:
        ConfigError: no such scheme, or a place that cannot be used.
    """
    scheme, colon, rest = ("jsonl", ":", "-") if url == "-" else url.partition(":")
    if not colon or scheme not in _OPENERS:
        kinds = ", ".join(f"{name}:..." for name in _OPENERS)
        raise ConfigError(f"the sink is {shown(url)}, expected - or one of {kinds}")
    module, _, function = _OPENERS[scheme].partition(":")
    sink: Sink = getattr(importlib.import_module(module), function)(rest)
    return sink
