"""What the server still has to do for this client: so that an answer waits for one other request at most."""

from __future__ import annotations

SERVICE_STEP = 0.1
"""How fast it is learned how long the server takes for a request: a share of the difference for each answer."""


class ServerBacklog:
    """Told by requests and the stamps of their answers; events as for `LinkObserver`.

    A request's way there takes as long as the next one's. So all is counted by the times at which requests were sent:
    the server was free again, in these times, as long after an answered request was sent as it had that request. Since
    then it has worked on those that were not answered, each of which takes as long as usual.
    """

    def __init__(self) -> None:
        self._sent: dict[int, float] = {}  # without an answer, oldest first: when sent, s
        self._service_s = 0.0  # what the server takes for one of several that wait
        self._done_ms: float | None = None  # when it had answered all that it has answered, on its clock
        self.began_ms = 0.0  # when it could begin with what it answered last: there, and done with the one before
        self._free = 0.0  # from then on, in times of sending, it could work on the requests without an answer

    def sent(self, request: int, size: int, now: float) -> None:
        """A request's bytes are given to the connection."""
        self._sent[request] = now

    def answered(self, request: int, now: float, *, arrived_ms: float, left_ms: float) -> None:
        """Its result came; the server's stamps are on the server's clock."""
        self.began_ms = arrived_ms if self._done_ms is None else max(arrived_ms, self._done_ms)
        service_s = max(0.0, left_ms - self.began_ms) / 1000  # 0 for all but one of a batch
        step = 1.0 if self._done_ms is None else SERVICE_STEP
        self._service_s += step * (service_s - self._service_s)
        self._done_ms = max(left_ms, self.began_ms)
        sent = self._sent.pop(request, None)
        if sent is not None:
            self._free = max(self._free, sent + max(0.0, left_ms - arrived_ms) / 1000)

    def refused(self, request: int, now: float) -> None:
        """Nothing is done for it any more."""
        self._sent.pop(request, None)

    def ponged(self, rtt_ms: float, now: float) -> None:
        """Says nothing of the server's work."""

    def disconnected(self) -> None:
        """The next server may be another one, with another clock."""
        self._sent.clear()
        self._done_ms = None

    def wait_s(self, now: float) -> float:
        """How long until a request would find one other there at most, if it were sent then."""
        if len(self._sent) < 2:
            return 0.0
        began = max(next(iter(self._sent.values())), self._free)
        return max(0.0, (len(self._sent) - 1) * self._service_s - (now - began))
