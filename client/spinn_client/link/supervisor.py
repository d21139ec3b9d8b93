"""Whether a server is well: the states of its link in one table. Plain code; `now` is an argument, in seconds.

OPEN ──try──► PROBING ──welcomed──► CONNECTED ──overdue──► SUSPECT     OPEN: no connection; the next try has its time
  ▲              │                    ▲  │                  │  │       PROBING: a connection is being made
  ├────ended─────┴────────────────────│──┴──────────────────│──┘       CONNECTED: requests may be sent
                                      └───────answered──────┘          SUSPECT: nothing is sent; is anybody there?

A connection is no proof of health: the pauses between two tries begin anew only after one that lasted. A peer that died
without a word is found by our own pings: TCP would take minutes. A request that is never answered holds up the next
ones for a moment only: if the server is there, another one is tried.
"""

from __future__ import annotations

import enum
import random

from spinn_client.backoff import Backoff

PING_S = 0.5
"""Between two pings, and between two looks at whether anybody is there."""

SILENT_S = 2.0
"""Nothing came for this long although a ping is under way: nobody is there. A link whose queue takes longer to empty is
of no use for frames; one whose packets vanish is dialled anew, which is sooner than TCP's own repeats."""

PATIENCE_S = 0.5
"""A request that is overdue for this long, while the server answers pings, holds up nothing any more: the next request
tells whether the server is well."""

UNANSWERED_S = 3.0
"""A request is given up this long after its deadline: alone if a later one was answered, else with the connection."""

HEALTHY_S = 5.0
"""A connection that lasted for this long was a healthy one."""


class State(enum.Enum):
    """Of the link to one server."""

    OPEN = enum.auto()
    PROBING = enum.auto()
    CONNECTED = enum.auto()
    SUSPECT = enum.auto()


class Happens(enum.Enum):
    """What moves a link from one state to another."""

    TRY = enum.auto()
    WELCOMED = enum.auto()
    OVERDUE = enum.auto()  # a request's deadline passed without an answer
    ANSWERED = enum.auto()  # no request is overdue any more
    ENDED = enum.auto()  # a try failed, or the connection ended


TRANSITIONS: dict[State, dict[Happens, State]] = {
    State.OPEN: {Happens.TRY: State.PROBING},
    State.PROBING: {Happens.WELCOMED: State.CONNECTED, Happens.ENDED: State.OPEN},
    State.CONNECTED: {Happens.OVERDUE: State.SUSPECT, Happens.ENDED: State.OPEN},
    State.SUSPECT: {Happens.ANSWERED: State.CONNECTED, Happens.ENDED: State.OPEN},
}


class Supervisor:
    """Told what happens on one server's link, says what to do about it. Each connection begins with nothing owed."""

    def __init__(self, rng: random.Random) -> None:
        self.state = State.OPEN
        self.since = 0.0  # in this state
        self._backoff = Backoff(rng)
        self._welcomed_at = 0.0
        self._heard = 0.0
        self._pinged: float | None = None  # a ping is under way, since
        self._owed: dict[int, float] = {}  # request -> its deadline, oldest first
        self.overtaken: dict[int, float] = {}  # the same, of requests that hold up nothing any more
        self._unanswered: float | None = None  # the first deadline that passed since the last answer

    # Connecting

    def pause_s(self) -> float:
        """How long to wait before the next try."""
        return self._backoff.next_s()

    def tries(self, now: float) -> None:
        """A connection is being made."""
        self._happens(Happens.TRY, now)

    def welcomed(self, now: float) -> None:
        """The server accepted the session."""
        self._happens(Happens.WELCOMED, now)
        self._welcomed_at = self._heard = now
        self._pinged = None

    def ended(self, now: float) -> None:
        """The try failed, or the connection is over: nothing of it counts any more."""
        if self.state in (State.CONNECTED, State.SUSPECT) and now - self._welcomed_at >= HEALTHY_S:
            self._backoff.reset()
        self._happens(Happens.ENDED, now)
        self._owed.clear()
        self.overtaken.clear()
        self._unanswered = None

    # While connected

    def sent(self, request: int, deadline: float) -> None:
        """A request went out."""
        self._owed[request] = deadline

    def settled(self, request: int, now: float) -> None:
        """It was answered or refused. What was sent before it is overtaken, and holds nothing up any more."""
        if request in self._owed:
            while (oldest := next(iter(self._owed))) != request:
                self.overtaken[oldest] = self._owed.pop(oldest)
            del self._owed[request]
        self.overtaken.pop(request, None)
        self._unanswered = None
        self.look(now)

    def pinged(self, now: float) -> None:
        """A ping went out."""
        self._pinged = now

    def heard(self, now: float, *, pong: bool = False) -> None:
        """Something came from the server."""
        self._heard = now
        if pong:
            self._pinged = None

    @property
    def ping_under_way(self) -> bool:
        return self._pinged is not None

    def look(self, now: float) -> State:
        """The state by now."""
        for request, deadline in list(self._owed.items()):
            if deadline > now:
                break
            if self._unanswered is None:
                self._unanswered = deadline
            if now - deadline >= PATIENCE_S and self._heard > deadline:
                self.overtaken[request] = self._owed.pop(request)
        overdue = next(iter(self._owed.values()), now + 1) <= now
        if overdue and self.state is State.CONNECTED:
            self._happens(Happens.OVERDUE, now)
        elif not overdue and self.state is State.SUSPECT:
            self._happens(Happens.ANSWERED, now)
        return self.state

    def given_up(self, now: float) -> list[int]:
        """Requests that nobody will answer any more, although later ones were."""
        lost = [request for request, deadline in self.overtaken.items() if now - deadline >= UNANSWERED_S]
        for request in lost:
            del self.overtaken[request]
        return lost

    def dead(self, now: float) -> str | None:
        """Why the connection is to be ended, in words; None: it is not."""
        if self._pinged is not None and now - max(self._heard, self._pinged) >= SILENT_S:
            return f"nothing came for {SILENT_S:g} s"
        self.look(now)
        if self._unanswered is not None and now - self._unanswered >= UNANSWERED_S:
            return f"it has not answered for {UNANSWERED_S:g} s"
        return None

    def _happens(self, what: Happens, now: float) -> None:
        self.state = TRANSITIONS[self.state][what]
        self.since = now
