"""Which piece of the network to run next, and for whom. Decides; the worker acts."""

from __future__ import annotations

import enum
import math
from bisect import insort
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from .costs import Costs
from .request import PATIENCE_S, Owner, Request

RESERVE = 1.2
"""A request counts as in time if the expected time, times this, fits: expected times are medians, and answers must be
sent."""

BUSY_RESERVE = 1.6
"""The same for the wait behind other requests, and for a batch that could be smaller. A safer choice costs no answer
there: another request takes the place."""


class Policy(enum.Enum):
    """SEGMENTS: requests join others at every cut point. RUN_TO_END: a batch goes to the end, and no request joins
    it."""

    SEGMENTS = "segments"
    RUN_TO_END = "run-to-end"


@dataclass(frozen=True)
class BatchLimits:
    """The scheduler's limits.

    A first step starts if it is full, if every client has a request in it, or if its oldest request has waited long
    enough.
    """

    max_batch_size: int = 16  # requests run at once
    max_wait_ms: float = 2.0  # how long the first request of a batch waits for company
    max_queue: int = 256  # requests that are open; one more is refused
    policy: Policy = Policy.SEGMENTS

    def __post_init__(self) -> None:
        if self.max_batch_size < 1 or self.max_queue < 1 or not 0 <= self.max_wait_ms <= 10_000:
            raise ValueError(f"expected max_batch_size >= 1, max_queue >= 1, 0 <= max_wait_ms <= 10000, got {self}")


@dataclass(frozen=True)
class Step:
    """Run this piece of the network for these requests, which all wait at its start."""

    batch: tuple[Request, ...]
    start: int
    stop: int


@dataclass(frozen=True)
class Refusal:
    """Refuse this request, and say why."""

    request: Request
    why: str


@dataclass(frozen=True)
class Decision:
    """What to do now.

    step: None: run nothing. hopeless: refuse these, since they can no longer be in time. wake_at: when to ask again if
    nothing arrives before; None: only when something arrives.
    """

    step: Step | None = None
    hopeless: list[Request] = field(default_factory=list)
    wake_at: float | None = None


class Scheduler:
    """All open requests of one bundle, each at the cut point that it has reached.

    If enough requests for a cheap batch wait at a cut point, they go on, those with the earliest deadline first.
    Otherwise a batch sweeps through the network from the shallowest cut point with a waiting request. It stops at exits
    that may answer, and at cut points where taking others along saves time. Answered requests leave. The others wait at
    their new cut point, together with requests that begin there. If a request elsewhere could not be in time after the
    next step, it goes first.

    Within a batch, each client's most urgent request goes before any client's second one. Among equals the earliest
    deadline is first.

    Args:
        piece_end: (start, wanted stop) -> the end of the piece that can be run now.
    """

    def __init__(
        self, limits: BatchLimits, costs: Costs, piece_end: Callable[[int, int], int] = lambda start, stop: stop
    ) -> None:
        self._limits = limits
        self._costs = costs
        self._piece_end = piece_end
        self._open: dict[Owner, list[Request]] = {}  # of each client, the most urgent first
        self._waiting: dict[int, list[Request]] = {}  # by the cut point that they have come to
        self._decoding: dict[Request, None] = {}
        self._running: Step | None = None
        self._busy_until = 0.0
        self._cursor = 0  # where the sweep is
        self._size = 0
        self._line: tuple[int, float] | None = None  # see `_company`; None: something has changed

    def __len__(self) -> int:
        """Requests that are open: in decoding, waiting or running."""
        return self._size

    @property
    def waiting(self) -> int:
        """Requests that are open and not in the present step."""
        return len(self._requests())

    def __contains__(self, request: Request) -> bool:
        return request in self._open.get(request.owner, ())

    def of(self, owner: Owner) -> list[Request]:
        """The open requests of one client."""
        return list(self._open.get(owner, ()))

    def all(self) -> list[Request]:
        """All open requests."""
        return [request for own in self._open.values() for request in own]

    def admit(self, request: Request, now: float) -> Refusal | None:
        """Take in a request whose payload is to be decoded, unless its answer could not be in time.

        Returns:
            The request to refuse: this one or, if there is no room, the last one of the client with the most. None:
            none.
        """
        if self._costs.forget(now):
            self._line = None
        budget = request.expires - now
        if budget > 0 and (finish := self._finish_s(request, now)) > budget:
            return Refusal(
                request, f"an answer would take {finish * 1000:.0f} ms, its budget is {budget * 1000:.0f} ms"
            )
        refusal = None
        if self._size >= self._limits.max_queue:
            refusal = Refusal(self._one_too_many(request), f"{self._size} requests are open already")
            if refusal.request is request:
                return refusal
            self.remove(refusal.request)
        insort(self._open.setdefault(request.owner, []), request, key=lambda r: r.due)
        self._decoding[request] = None
        self._size += 1
        if self._line is not None:
            self._line = self._line[0] + 1, self._line[1] + self._costs.row(request.at, self._goal(request))
        return refusal

    def decoded(self, request: Request) -> None:
        """The request's activation is decoded; it may be run."""
        if self._decoding.pop(request, self) is None:
            self._waiting.setdefault(request.at, []).append(request)

    def remove(self, request: Request) -> bool:
        """Take out a request, wherever it is; False if it is not open. If it is in a running step, the step goes on."""
        if request not in self:
            return False
        own = self._open[request.owner]
        own.remove(request)
        if not own:
            del self._open[request.owner]
        self._size -= 1
        self._line = None
        self._decoding.pop(request, None)
        self._leave_queue(request)
        return True

    def delay_s(self, now: float) -> float:
        """How long a new request would wait for the others."""
        return max(0.0, self._busy_until - now) + self._company()[1]

    def next(self, now: float, *, sources: int | None = None) -> Decision:
        """What to run at `now`, while no step runs. After the step, call `ran`.

        Args:
            sources: number of clients that could send a request; that number of requests waits for no other.
        """
        assert self._running is None
        hopeless = self.hopeless(now)
        if not self._waiting:
            return Decision(None, hopeless)
        wake_at = self._wait_for_company(now, sources)
        if wake_at is not None:
            return Decision(None, hopeless, min(wake_at, self.hopeless_at()))
        step = self._step(self._where(), now)
        urgent = self._urgent(now + self._costs.run(step.start, step.stop, len(step.batch)))
        if urgent not in (None, step.start):
            step = self._step(urgent, now)
        for request in step.batch:
            self._leave_queue(request)
        step = Step(step.batch, step.start, self._piece_end(step.start, step.stop))
        self._running, self._line = step, None
        self._busy_until = now + self._costs.run(step.start, step.stop, len(step.batch))
        return Decision(step, hopeless)

    def ran(self, step: Step, confidences: Sequence[float] | None, now: float) -> list[tuple[Request, bool]]:
        """The step is done. Gives the requests that its last exit answers, and whether that is earlier than asked for.

        They are no longer open. The others wait at the end of the step.

        Args:
            confidences: of the exit there, one for each request; None: there is no exit.
        """
        assert step is self._running
        self._running, self._busy_until, self._cursor, self._line = None, now, step.stop, None
        last = step.stop == self._costs.last
        stay, sure, may_stop = [], [], []
        for n, request in enumerate(step.batch):
            if request not in self:
                continue
            request.at = step.stop
            least = request.needed.get(step.stop)
            if last or (confidences is not None and least is not None and confidences[n] >= least):
                sure.append(request)
            elif confidences is not None and request.may_shorten:
                may_stop.append(request)
            else:
                stay.append(request)
        for request in sure:
            self.remove(request)
            self._costs.left(request.split, step.stop)
        shortened = may_stop if self._is_strained(now, may_stop) else []
        for request in shortened:
            self.remove(request)
        if not shortened:
            stay += may_stop
        if stay:
            self._waiting.setdefault(step.stop, []).extend(stay)
        return [(request, False) for request in sure] + [(request, True) for request in shortened]

    def hopeless(self, now: float) -> list[Request]:
        """Takes out and gives the requests that can no longer be in time."""
        found = [request for request, latest in self._latest(self._requests()) if latest <= now]
        for request in found:
            self.remove(request)
        return found

    def hopeless_at(self) -> float:
        """The time at which the next waiting request can no longer be in time."""
        return min((latest for _, latest in self._latest(self._requests())), default=math.inf)

    def _one_too_many(self, new: Request) -> Request:
        """The request to refuse if there is no room: the new one, unless another client has more that have not
        begun."""
        greediest = max(self._open.values(), key=len)
        running = self._running.batch if self._running else ()
        last = next((r for r in reversed(greediest) if r.at == r.split and r not in running), new)
        return last if len(greediest) > len(self._open.get(new.owner, ())) + 1 else new

    def _requests(self) -> list[Request]:
        """All open requests outside the present step."""
        return [*self._decoding, *(request for queue in self._waiting.values() for request in queue)]

    def _leave_queue(self, request: Request) -> None:
        queue = self._waiting.get(request.at, [])
        if request in queue:
            queue.remove(request)
            if not queue:
                del self._waiting[request.at]

    def _goal(self, request: Request) -> int:
        """The first cut point at which the request could be answered."""
        return self._costs.next_exit(request.at) if request.may_shorten else self._costs.last

    def _company(self) -> tuple[int, float]:
        """The requests outside the present step: how many they are, and the time that they still need in batches that
        are large enough. Every refusal asks for it, so it is kept: `admit` adds to it, other changes reset it."""
        if self._line is None:
            requests, row, goal = self._requests(), self._costs.row, self._goal
            self._line = len(requests), sum([row(request.at, goal(request)) for request in requests])
        return self._line

    def _latest(self, requests: Iterable[Request]) -> Iterator[tuple[Request, float]]:
        """Requests, and the last moment to begin with each in time, in a batch of sensible size."""
        needed: dict[tuple[int, bool], float] = {}  # by cut point and goal, the time from there to the goal
        for request in requests:
            key = request.at, request.may_shorten
            if key not in needed:
                company = min(self._costs.enough(request.at), max(1, len(self._waiting.get(request.at, ()))))
                needed[key] = RESERVE * self._costs.run(request.at, self._goal(request), company)
            yield request, request.expires - needed[key]

    def _finish_s(self, request: Request, now: float) -> float:
        """Time until a new request is answered, in the order of service."""
        own = self._open.get(request.owner, ())
        rank = sum(1 for r in own if r.due <= request.due)
        ahead = sum(
            min(len(queue), rank) + (len(queue) > rank and queue[rank].due <= request.due)
            for queue in self._open.values()
        )
        if self._running is not None:
            ahead -= len(self._running.batch)
        company, work = self._company()
        work = work * max(0, ahead) / company if company else 0.0
        together = min(self._costs.enough(request.at), company + 1)
        last_batch = self._costs.run(request.at, self._goal(request), together)
        return max(0.0, self._busy_until - now) + BUSY_RESERVE * work + RESERVE * last_batch

    def _is_strained(self, now: float, begun: Sequence[Request] = ()) -> bool:
        """Whether a request would be late if all requests, the running ones included, went as far as they ask."""
        costs, total = self._costs, 0.0
        for count, request in enumerate([*begun, *sorted(self._requests(), key=lambda r: r.due)], 1):
            total += costs.row(request.at, costs.last)
            together = costs.run(request.at, costs.last, min(count, costs.enough(request.at)))
            if max(BUSY_RESERVE * total, RESERVE * together) > request.expires - now:
                return True
        return False

    def _wait_for_company(self, now: float, sources: int | None) -> float | None:
        """Until when the waiting requests should wait for others; None: they should not."""
        enough = self._limits.max_batch_size if sources is None else min(self._limits.max_batch_size, sources)
        waiting = [request for queue in self._waiting.values() for request in queue]
        if len(waiting) >= enough or any(request.at != request.split for request in waiting):
            return None
        until = min(request.arrived for request in waiting) + self._limits.max_wait_ms / 1000
        return until if until > now else None

    def _where(self) -> int:
        """The cut point at which the next step starts."""
        cuts = sorted(self._waiting)
        if self._limits.policy is Policy.RUN_TO_END:
            begun = [cut for cut in cuts if any(r.at != r.split for r in self._waiting[cut])]
            return begun[0] if begun else min(cuts, key=lambda cut: min(r.arrived for r in self._waiting[cut]))
        full = [cut for cut in cuts if len(self._waiting[cut]) >= self._costs.enough(cut)]
        if full:  # company would save nothing
            return min(full, key=lambda cut: min(r.due for r in self._waiting[cut]))
        return next((cut for cut in cuts if cut >= self._cursor), cuts[0])

    def _urgent(self, then: float) -> int | None:
        """The cut point of a request that would be late if it began only at `then`; None: there is none."""
        waiting = (request for queue in self._waiting.values() for request in queue)
        latest, cut = min((min(latest, r.arrived + PATIENCE_S), r.at) for r, latest in self._latest(waiting))
        return cut if latest < then and self._limits.policy is Policy.SEGMENTS else None

    def _step(self, start: int, now: float) -> Step:
        batch = self._choose(start, now)
        return Step(tuple(batch), start, self._stop(start, batch, now))

    def _choose(self, cut: int, now: float) -> list[Request]:
        """The requests at a cut point that go on: the most that fit into a batch and can all be in time."""
        queue = self._waiting[cut]
        if self._limits.policy is Policy.RUN_TO_END:
            begun = [request for request in queue if request.at != request.split]
            return (begun or sorted(queue, key=lambda r: r.arrived))[: self._limits.max_batch_size]
        rank = {r: n for owner in {r.owner for r in queue} for n, r in enumerate(self._open[owner])}
        ordered = sorted(queue, key=lambda r: (rank[r], r.due))[: self._limits.max_batch_size]
        first = min(r.expires for r in ordered)
        size = len(ordered)
        costs = self._costs
        while size > costs.enough(cut) and now + BUSY_RESERVE * costs.run(cut, costs.last, size) > first:
            size -= 1
        return ordered[:size]

    def _stop(self, start: int, batch: Sequence[Request], now: float) -> int:
        """Where the step ends: at the next exit that may answer, or where it pays to take others along."""
        exits = {cut for request in batch for cut in request.needed}
        if any(request.may_shorten for request in batch) and self._is_strained(now):
            exits.update(self._costs.exits)
        stop = min((cut for cut in exits if cut > start), default=self._costs.last)
        if self._limits.policy is Policy.RUN_TO_END:
            return stop
        for cut in sorted(self._waiting):
            if start < cut < stop:
                gain = self._costs.gain(cut, len(batch), len(self._waiting[cut]))
                if gain > self._costs.stop_price(start, cut, stop, len(batch)):
                    return cut
        return stop
