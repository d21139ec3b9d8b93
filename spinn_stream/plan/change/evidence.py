"""Whether a plan that seems better is better: large gains are believed soon, small ones late, and chance never."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from .config import SchedulerConfig


class Gain(NamedTuple):
    """By how much a plan is better than the one in force. share: in the first target that tells them apart.

    first, later: whether it is better in the first target of all, and in one after that.
    """

    share: float
    first: bool
    later: bool


@dataclass
class _Tie:
    """beyond: seconds times the share beyond the margin since then, or short of it."""

    since: float
    beyond: float = 0.0


class Evidence:
    """Evidence from all looks since the plan in force was taken; see `confirmed` and `a tie` in `hysteresis`."""

    def __init__(self, config: SchedulerConfig) -> None:
        self._config = config
        self._proof = 0.0
        self._opened: float | None = None  # since when some plan is about to prove better
        self._tie: _Tie | None = None

    @property
    def open(self) -> bool:
        """Whether some plan is about to prove better, now or in a tie."""
        return self._proof > 0 or self._tie is not None

    def against(self) -> None:
        """The plan in force is the best one."""
        self._proof, self._opened = 0.0, None
        if self._tie is not None:
            self._tie.beyond = min(self._tie.beyond, 0.0)

    def refuted(self) -> None:
        """The proof does not hold under other conditions; the question stays open."""
        self._proof = 0.0

    def gather(self, now: float, gain: Gain | None, seconds: float, *, rested: bool) -> bool:
        """Whether there is a better plan, after the evidence of this look.

        Args:
            now: in seconds, never falling. gain: the best plan's over the one in force; None: by no more than the
                margin. seconds: since the look before. rested: the last change is so old that one for a later target
                alone may follow.
        """
        if gain is None or gain.first or rested:
            self._add(now, gain, seconds)
        return self._proved(now)

    def _add(self, now: float, gain: Gain | None, seconds: float) -> None:
        config, tie = self._config, self._tie
        patient = config.proof / max(config.patience_s, 1e-9)
        beyond = float("-inf") if gain is None or not gain.first else min(gain.share, config.most_gain) - config.margin
        added = max(beyond, patient if gain is not None and gain.later else -patient)
        if tie is not None:
            tie.beyond += added * seconds
            added = max(beyond - config.margin, -patient)
        least = 0.0 if gain is None else 1e-12
        self._proof = max(self._proof + added * seconds, least)
        if self._proof <= 0:
            self._opened = None
        elif self._opened is None:
            self._opened = now

    def _proved(self, now: float) -> bool:
        """Whether the better plan has proved it. Begins and ends a tie."""
        config, tie = self._config, self._tie
        if self._proof >= config.proof:
            return True
        if tie is None:
            if self._opened is not None and now - self._opened >= config.settle_s:
                self._tie, self._proof = _Tie(now), 0.0
        elif now - tie.since >= config.tie_s:
            self._tie = self._opened = None
            return tie.beyond > 0
        return False
