"""The first exits that the device owes to frames: whether it can keep to all of them, and when it must begin."""

from __future__ import annotations

import math

from spinn_stream.bundle import Bundle
from spinn_stream.plan import Plan

from .actions import DeviceTimes
from .flight import SPARE_MS, State
from .ledger import Ledger
from .reliance import Reliance


class FirstExits:
    """Of the frames in a ledger. Times in seconds of the caller's clock."""

    def __init__(self, bundle: Bundle, ledger: Ledger, device: DeviceTimes) -> None:
        self._bundle = bundle
        self._ledger = ledger
        self._device = device

    def after_s(self, plan: Plan) -> float:
        """From the end of a plan's head; 0.0: the head has one."""
        if min(self._bundle.exit_at) <= plan.split:
            return 0.0
        return self._device.first_exit_ms(plan.split) / 1000

    def all_in_time(self, ready: float, one_more: tuple[Plan, float] | None = None) -> bool:
        """Whether the device, free at `ready`, can give every frame that it owes one a first exit in time.

        The earliest deadline goes first. one_more: the plan and deadline of a frame that is not taken yet.
        """
        owed = [(f.deadline, f.plan) for f in self._ledger if not f.relies and f.best is None and not f.finishing]
        if one_more is not None:
            owed.append((one_more[1], one_more[0]))
        at = ready
        for deadline, plan in sorted(owed, key=lambda pair: pair[0]):
            at += self.after_s(plan)
            if at > deadline - SPARE_MS / 1000:
                return False
        return True

    def set_times(self, reliance: Reliance, now: float) -> None:
        """When the device is to begin with each frame that is AWAY without an answer, and when waiting frames go on.

        At once if the server usually answers later than the device would have to begin, else as late as possible:
        frames that it owes a first exit are worked on one after the other. A frame that relies on the server is worked
        on if its answer is overdue and the device has nothing else to do.

        A frame that waits for another one's answer goes on while it can still have what it would have had without: its
        own answer of the server, and the device's first exit.
        """
        begin, usual, longest = math.inf, reliance.usual(now), reliance.longest(now)
        for flight in sorted(self._ledger, key=lambda f: -f.deadline):
            end, first_exit_s = flight.deadline - SPARE_MS / 1000, self.after_s(flight.plan)
            owed = flight.best is None and not flight.finishing
            if owed and not flight.relies:
                begin = min(begin, end) - first_exit_s
            if flight.awaits is not None:
                takes = longest if flight.relies or longest < math.inf else 0.0  # of a server that is not known yet
                flight.rescue_at = min(end - takes, begin if owed and not flight.relies else math.inf)
                continue
            if not owed or flight.sent_at is None or flight.state is not State.AWAY or flight.rescued:
                continue
            if flight.relies:
                flight.rescue_at = min(flight.sent_at + longest, end - first_exit_s)
            else:
                flight.rescue_at = begin if flight.sent_at + usual <= begin else flight.sent_at
