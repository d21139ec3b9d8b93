"""What a sink is, and the sinks by the scheme of their URL. One is a file and a registration here."""

from __future__ import annotations

import importlib
from typing import Protocol

from spinn_client.events import Event
from spinn_client.frames.results import Result
from spinn_stream.errors import ConfigError


class Sink(Protocol):
    """A place where answers go. No method waits for a slow place, but `close`, for a limited time.

    It is made before the run, and says then what is wrong with its URL without touching what the URL names.
    """

    def begin(self) -> None:
        """The run really begins: open, create, connect."""

    def add(self, result: Result) -> None:
        """One result. Raises whatever the place has failed with; `ReaderGone`: nobody wants more."""

    def event(self, event: Event) -> None:
        """Something that happened besides."""

    def close(self) -> None:
        """Deliver what is left. Raises whatever could not be."""


_OPENERS: dict[str, str] = {}


def register_sink(scheme: str, opener: str) -> None:
    """Let `open_sink` know a scheme. opener: "module:function", called with what follows the colon of the URL."""
    _OPENERS[scheme] = opener


register_sink("jsonl", "spinn_client.sinks.jsonl:open_sink")


def open_sink(url: str) -> Sink:
    """The sink that a URL names: `jsonl:FILE`, or `-` for JSON lines on stdout.

    Raises:
        ConfigError: no such scheme, or a place where nothing can go.
    """
    scheme, colon, rest = ("jsonl", ":", "-") if url == "-" else url.partition(":")
    if not colon or scheme not in _OPENERS:
        raise ConfigError(f"the sink is {url!r}, expected - or one of {', '.join(f'{name}:...' for name in _OPENERS)}")
    module, _, function = _OPENERS[scheme].partition(":")
    sink: Sink = getattr(importlib.import_module(module), function)(rest)
    return sink
