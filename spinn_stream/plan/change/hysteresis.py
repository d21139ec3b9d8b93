"""Whether a better plan is worth a change: the plan follows steps of the conditions at once, and noise seldom.

    soon        The plan in force breaks a constraint that another one keeps, and still does `repair_s` later. (If a
                machine pauses for a moment, the link looks dead.) Each such change just before makes this wait three
                times as long, since the belief about each side settles in its own time after a step. If a plan keeps
                the constraints under worse conditions, too, the wait is three times `repair_s` at most.
    confirmed   Another plan is better by more than `margin`, look after look. The share beyond the margin adds up over
                time to `proof` (a cumulative sum, Page 1954), so large gains are believed soon. A plan that is better
                in a later target takes `patience_s` at most; if it is better in that one only, it comes no sooner than
                `rest_s` after another change. A look that finds nothing better takes some away again.
    a tie       A plan seems better, but has not proved it within `settle_s`. The mean of the next `tie_s` decides, or
                another plan that is better in the first target by `margin` more.
    held        A change back to a plan that was left lately waits until its hold is over, unless the gain is large. The
                hold doubles with every return that comes soon after it.

A better plan must keep the constraints with `headroom` to spare, and be no worse if conditions are worse or better by
`caution`. Otherwise noise would push it out again. (A device or a server that can only just keep up with its frames is
at the edge of a cliff.)
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import NamedTuple

from spinn_stream.plan.predict.predictor import Prediction
from spinn_stream.plan.sla.sla import Constraint, Sla

from .choice import KEPT, choose, violations
from .config import SchedulerConfig
from .evidence import Evidence, Gain
from .reason import gained, repaired

_STEADY = ("accuracy", "accuracy_drop", "server_cost")
"""Figures that hardly waver with the conditions: no headroom is asked of them."""


@dataclass(frozen=True)
class Change:
    """place: of the plan to change to, in the prediction. why: a clause of a reason (see `reason`)."""

    place: int
    why: str


class _Better(NamedTuple):
    change: Change
    gain: Gain


class _Where(NamedTuple):
    number: int
    split: int

    def apart_from(self, other: _Where) -> list[tuple[str, int]]:
        """What a change between the two leaves or takes up: the plan, and the split if that differs."""
        return [("plan", self.number)] + ([("split", self.split)] if self.split != other.split else [])


@dataclass
class _Left:
    """A plan, or a split, that was given up. returns: how often it was taken up again soon after."""

    at: float
    returns: int = 0


class Hysteresis:
    """Compares the plan in force with the best one. `now` is in seconds and never falls."""

    def __init__(self, config: SchedulerConfig) -> None:
        self._config = config
        self._evidence = Evidence(config)
        self._compared: float | None = None
        self._broken: float | None = None  # since when the plan in force breaks a constraint
        self._repairs: list[float] = []  # when constraints made a change, lately
        self._changed_at = -math.inf
        self._left: dict[tuple[str, int], _Left] = {}  # plans by number in the whole table, and splits

    @property
    def open_question(self) -> bool:
        """Whether some plan is about to prove better, now or in a tie, or the one in force to be broken."""
        return self._evidence.open or self._broken is not None

    @property
    def repair_at(self) -> float:
        """When the shortest wait for a repair is over; infinity: the plan in force breaks no constraint."""
        if self._broken is None:
            return math.inf
        return self._broken + self._config.repair_s * 3.0 ** min(len(self._repairs), 1)

    def settled(self) -> None:
        """The plan in force is the best one."""
        self._broken = None
        self._evidence.against()

    def compare(
        self,
        now: float,
        prediction: Prediction,
        sla: Sla,
        current: int,
        best: int,
        violation: float,
        elsewhere: Callable[[float], Prediction],
    ) -> Change | None:
        """The change to make under these conditions; None: none.

        Args:
            current, best: places in the prediction. violation: the best one's. elsewhere: gives the prediction if
                device, server and link take `factor` times as long; called when a change is due.
        """
        elapsed = 0.0 if self._compared is None else now - self._compared
        self._compared = now
        broken = float(violations(prediction, sla.constraints)[current])
        if broken > self._config.margin + violation or (broken > KEPT and violation <= 0):
            return self._repair(now, prediction, sla, current, best, violation, elsewhere)
        self._broken = None
        better = self._better(prediction, sla, current, best, violation)
        found = None if better is None else better.gain
        seconds = min(elapsed, 2 * self._config.min_interval_s)
        proved = self._evidence.gather(now, found, seconds, rested=now - self._changed_at >= self._config.rest_s)
        if better is None or not proved:
            return None
        config, change = self._config, better.change
        clear = better.gain.share >= config.clear_margin and self._spares(prediction, sla, change.place)
        table = prediction.table
        old, new = (_Where(int(table.number[place]), int(table.split[place])) for place in (current, change.place))
        if not self._may_return(old, new, now, clear=clear):
            return None
        factor = 1 + config.caution
        if any(_worse(elsewhere(times), sla, current, change.place) for times in (factor, 1 / factor)):
            self._evidence.refuted()
            return None
        return change

    def changed(self, now: float, old: tuple[int, int] | None, new: tuple[int, int]) -> None:
        """The plan changes from `old` to `new`; each is its number in the whole table, and its split."""
        self._broken = None
        self._evidence = Evidence(self._config)
        self._changed_at = now
        if old is not None:
            before, after = _Where(*old), _Where(*new)
            for key in before.apart_from(after):
                self._left.setdefault(key, _Left(now)).at = now
            for key in after.apart_from(before):
                left = self._left.get(key)
                if left is not None:
                    soon = now - left.at < 3 * self._hold(left)
                    left.returns = left.returns + 1 if soon else max(0, left.returns - 1)
        self._left = {n: kept for n, kept in self._left.items() if now - kept.at <= self._config.remember_s}

    def _repair(
        self, now: float, prediction: Prediction, sla: Sla, current: int, best: int, violation: float,
        elsewhere: Callable[[float], Prediction],
    ) -> Change | None:  # fmt: skip
        """The plan in force breaks a constraint. After the wait, the change goes to the best plan under worse
        conditions if it keeps the constraints there, or else to one with headroom, or else to the best."""
        self._broken = now if self._broken is None else self._broken
        self._repairs = [at for at in self._repairs if now - at <= self._config.repairs_s]
        if now < self.repair_at:
            return None
        careful = self._keeps_elsewhere(sla, elsewhere) if violation <= 0 else None
        safe = careful is not None
        if not safe and now < self._broken + self._config.repair_s * 3.0 ** len(self._repairs):
            return None
        spare = careful if safe else self._with_headroom(prediction, sla) if violation <= 0 else None
        worst = max(sla.constraints, key=lambda c: c.violation(float(prediction.of(c.metric.name)[current])))
        value = float(prediction.of(worst.metric.name)[current])
        self._repairs.append(now)
        return Change(best if spare is None else spare, repaired(worst, value))

    def _keeps_elsewhere(self, sla: Sla, elsewhere: Callable[[float], Prediction]) -> int | None:
        """The best plan under worse conditions, if it keeps the constraints there. The more repairs came just before,
        the worse the conditions: the belief was too favourable then."""
        factor = 1 + self._config.caution
        for harder in dict.fromkeys((factor ** (1 + len(self._repairs)), factor)):
            place, violation = choose(elsewhere(harder), sla)
            if violation <= 0:
                return place
        return None

    def _better(self, prediction: Prediction, sla: Sla, current: int, best: int, violation: float) -> _Better | None:
        """The plan that beats the one in force by the margin."""
        if violation <= 0:
            spare = self._with_headroom(prediction, sla)
            if spare is None or spare == current:
                return None
            best = spare
        found: tuple[Change, float] | None = None
        for n, target in enumerate(sla.targets):
            name, rises = target.metric.name, target.metric.rises
            ours, theirs = (float(prediction.of(name)[i]) for i in (current, best))
            gain = theirs - ours if rises else ours - theirs
            slack = abs(target.limit(ours) - ours)
            if gain < -slack:
                break
            if gain <= max(slack, 0.0 if target.metric.absolute else self._config.margin * abs(ours)):
                continue
            if found is not None:
                return _Better(found[0], Gain(found[1], first=True, later=True))
            share = gain / max(abs(ours), 1e-9)
            if target.metric.absolute:  # a point of accuracy is a small share of it and much: in tolerances, then
                share = self._config.margin * gain / max(slack, 1e-9)
            found = Change(best, gained(target.metric, ours, theirs)), share
            if n:
                return _Better(found[0], Gain(found[1], first=False, later=True))
        return None if found is None else _Better(found[0], Gain(found[1], first=True, later=False))

    def _with_headroom(self, prediction: Prediction, sla: Sla) -> int | None:
        """The best plan under tighter constraints; None if no plan keeps them."""
        tight = tuple(_tightened(c, self._config.headroom) for c in sla.constraints)
        index, violation = choose(prediction, replace(sla, constraints=tight))
        return index if violation <= 0 else None

    def _spares(self, prediction: Prediction, sla: Sla, place: int) -> bool:
        """Whether a plan keeps the constraints with much to spare."""
        tight = (_tightened(c, self._config.clear_headroom) for c in sla.constraints)
        return all(c.violation(float(prediction.of(c.metric.name)[place])) <= KEPT for c in tight)

    def _may_return(self, old: _Where, new: _Where, now: float, *, clear: bool) -> bool:
        held = (left for key in new.apart_from(old) if (left := self._left.get(key)) is not None)
        return all(now - left.at >= (self._config.least_hold_s if clear else self._hold(left)) for left in held)

    def _hold(self, left: _Left) -> float:
        return min(self._config.hold_s * 2.0**left.returns, self._config.longest_hold_s)


def _worse(prediction: Prediction, sla: Sla, current: int, place: int) -> bool:
    """Whether the plan at `place` breaks the constraints more than the one in force, or loses to it by more than a
    target's tolerance."""
    broken = violations(prediction, sla.constraints)
    if broken[place] > broken[current] + KEPT:
        return True
    for target in sla.targets:
        ours, theirs = (float(prediction.of(target.metric.name)[i]) for i in (current, place))
        gain = theirs - ours if target.metric.rises else ours - theirs
        slack = abs(target.limit(ours) - ours)
        if abs(gain) > slack:
            return gain < 0
    return False


def _tightened(constraint: Constraint, headroom: float) -> Constraint:
    metric, bound = constraint.metric, constraint.bound
    if metric.name in _STEADY:
        return constraint
    return Constraint(metric, min(bound * (1 + headroom), metric.largest) if metric.rises else bound * (1 - headroom))
