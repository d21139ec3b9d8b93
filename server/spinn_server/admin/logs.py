"""The server's log: lines of text, or of JSON with the session and the frame that each is about."""

from __future__ import annotations

import enum
import json
import logging
import sys
import time
from collections.abc import Callable, MutableMapping
from datetime import UTC, datetime
from typing import Any


class Form(enum.Enum):
    """How log lines look."""

    TEXT = "text"
    JSON = "json"


class Level(enum.Enum):
    """The least important line that is shown."""

    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


SELDOM_S = 60.0
"""Shortest time between two log lines about things that any peer can cause; a line says how often they happened."""


class SessionLog(logging.LoggerAdapter[logging.Logger]):
    """A log whose lines name the session: its number and its peer."""

    def __init__(self, log: logging.Logger, number: int, peer: str) -> None:
        super().__init__(log, {"session": number, "peer": peer})

    def process(self, msg: Any, kwargs: MutableMapping[str, Any]) -> tuple[Any, MutableMapping[str, Any]]:
        about = {**(self.extra or {}), **kwargs.get("extra", {})}
        frame = f" frame {about['frame']}" if "frame" in about else ""
        return f"session {about['session']} {about['peer']}{frame}: {msg}", {**kwargs, "extra": about}


class JsonLines(logging.Formatter):
    """One JSON object a line: at (UTC), level, logger, message; session, peer, frame and traceback if there are any."""

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, Any] = {
            "at": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
        }
        line |= {name: getattr(record, name) for name in ("session", "peer", "frame") if hasattr(record, name)}
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return json.dumps(line)


def set_up(form: Form, level: Level) -> None:
    """Log to stderr from now on."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        JsonLines() if form is Form.JSON else logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s")
    )
    logging.basicConfig(level=level.name, handlers=[handler], force=True)
    logging.getLogger("websockets").setLevel(logging.CRITICAL)  # strangers' broken handshakes are not our news


class Seldom:
    """Logs each kind of warning once in `SELDOM_S`, and says how often it happened meanwhile."""

    def __init__(self, log: logging.Logger, clock: Callable[[], float] = time.monotonic) -> None:
        self._log = log
        self._clock = clock
        self._said: dict[str, tuple[float, int]] = {}  # kind -> when it was last said, how often it was not since

    def warning(self, kind: str, text: str) -> None:
        """kind: one of a few; a peer must not be able to choose it."""
        now = self._clock()
        at, missed = self._said.get(kind, (-SELDOM_S, 0))
        if now - at < SELDOM_S:
            self._said[kind] = at, missed + 1
            return
        self._said[kind] = now, 0
        self._log.warning("%s%s", text, f" ({missed} times more since this was last said)" if missed else "")
