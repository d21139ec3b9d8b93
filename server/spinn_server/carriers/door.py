"""What every carrier does with a request before a session begins, and with a fault of our own in one."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from http import HTTPStatus

from spinn_server.admin.foreign import printable
from spinn_server.admin.logs import Seldom
from spinn_server.admin.metrics import Metrics
from spinn_server.admin.routes import SESSIONS, HttpAnswer

from .base import Carrier, Service
from .peers import Front

log = logging.getLogger(__name__)


class Door:
    """Asks the service on behalf of a carrier's requests. Never raises because of the service."""

    def __init__(self, service: Service, front: Front, metrics: Metrics) -> None:
        self._service = service
        self.front = front
        self._metrics = metrics
        self._seldom = Seldom(log)

    async def answer(self, asked: str, origins: Sequence[str]) -> HttpAnswer | None:
        """The answer to plain HTTP; None: a session may begin.

        Args:
            asked: the path as the request has it. origins: of the page that asks; a stranger may send several.
        """
        path = self.front.path(asked)
        try:
            if path == SESSIONS and any(map(self.front.refuses, origins)):
                return self._refuse_origin(" and ".join(origins))
            if path == SESSIONS:
                return self._service.answer(path)
            return await asyncio.to_thread(self._service.answer, path)  # the figures take milliseconds to write down
        except Exception:
            log.exception("no answer to %s for a reason of our own", printable(asked))
            return HttpAnswer(HTTPStatus.INTERNAL_SERVER_ERROR, "the server made a mistake; its log says which\n")

    async def serve(self, carrier: Carrier) -> None:
        """Serve one session."""
        try:
            await self._service.serve(carrier)
        except Exception:
            log.exception("%s: a session ended for a reason of our own", carrier.peer)
            carrier.abort()

    def _refuse_origin(self, origin: str) -> HttpAnswer:
        self._metrics.refused_connections.labels("origin").inc()
        self._seldom.warning("origin", f"a page of {printable(origin)} was refused; see --allow-origin")
        return HttpAnswer(HTTPStatus.FORBIDDEN, "pages of this origin are not allowed here; see --allow-origin\n")
