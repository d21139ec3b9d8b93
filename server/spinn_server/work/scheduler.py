"""Which requests to run together, and when. Decides; the tail engine acts."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

from .request import Request


@dataclass(frozen=True)
class BatchLimits:
    """The batcher's limits.

    A batch leaves when it is full, when every client has a request in it, or when its oldest request has
    waited long enough.
    """

    max_batch_size: int = 16  # requests run at once
    max_wait_ms: float = 2.0  # how long the first request of a batch waits for company
    max_queue: int = 256  # waiting requests; one more is refused

    def __post_init__(self) -> None:
        if self.max_batch_size < 1 or self.max_queue < 1 or not 0 <= self.max_wait_ms <= 10_000:
            raise ValueError(f"expected max_batch_size >= 1, max_queue >= 1, 0 <= max_wait_ms <= 10000, got {self}")


@dataclass(frozen=True)
class Decision:
    """What to do now.

    batch: run these together; all of one split. expired: refuse these, their budget ran out while they
    waited. wake_at: when to ask again if nothing arrives before; None: not until something does.
    """

    batch: list[Request] = field(default_factory=list)
    expired: list[Request] = field(default_factory=list)
    wake_at: float | None = None


class Batcher:
    """Requests grouped by the split they begin at: only those have activations of one shape.

    Among groups that are due, the one whose first request is the oldest goes first.
    """

    def __init__(self, limits: BatchLimits) -> None:
        self._limits = limits
        self._groups: dict[int, deque[Request]] = {}
        self._size = 0

    def __len__(self) -> int:
        return self._size

    def add(self, request: Request) -> bool:
        """Queue a request; False if the queue is full and the request is to be refused."""
        if self._size >= self._limits.max_queue:
            return False
        self._groups.setdefault(request.split, deque()).append(request)
        self._size += 1
        return True

    def remove(self, request: Request) -> bool:
        """Take out a request that is no longer wanted; False if it is not waiting."""
        group = self._groups.get(request.split)
        if group is None or request not in group:
            return False
        group.remove(request)
        self._size -= 1
        self._keep(request.split, group)
        return True

    def take(self, now: float, *, sources: int | None = None) -> Decision:
        """What to run at `now`, if anything. The decision's requests have left the queue.

        Args:
            sources: how many clients could send a request; as many requests wait for nobody else.
        """
        enough = self._limits.max_batch_size if sources is None else min(self._limits.max_batch_size, sources)
        expired: list[Request] = []
        for split, group in list(self._groups.items()):
            alive = deque(r for r in group if r.expires > now)
            expired += [r for r in group if r.expires <= now]
            self._keep(split, alive)
        self._size -= len(expired)
        wait = self._limits.max_wait_ms / 1000
        first = sorted(self._groups.items(), key=lambda item: item[1][0].arrived)
        for split, group in first:
            if len(group) >= enough or group[0].arrived + wait <= now:
                batch = [group.popleft() for _ in range(min(len(group), self._limits.max_batch_size))]
                self._size -= len(batch)
                self._keep(split, group)
                return Decision(batch, expired)
        times = [group[0].arrived + wait for group in self._groups.values()]
        times += [r.expires for group in self._groups.values() for r in group]
        return Decision([], expired, min(times, default=None))

    def _keep(self, split: int, group: deque[Request]) -> None:
        if group:
            self._groups[split] = group
        else:
            self._groups.pop(split, None)
