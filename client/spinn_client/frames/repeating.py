"""Frames that get the answer of another one, which has its answer or is with the server.

A frame that looks like one with the server waits for that answer instead of being sent. It waits only while it can
still have what it would have without waiting (`Frames.wait`). It is sent then if the answer is refused, lost or late,
or was nearly another one.
"""

from __future__ import annotations

from collections.abc import Callable

from spinn_client.device.camera_answers import CameraAnswers
from spinn_stream.frame import Pixels
from spinn_stream.repeat import Look

from .actions import Action, Emit, Send
from .flight import Flight, State
from .frames import Frames
from .ledger import Ledger


class Repeating:
    """Of one stream. Times in seconds of the caller's clock."""

    def __init__(self, frames: Frames, ledger: Ledger, answers: CameraAnswers) -> None:
        self._frames = frames
        self._ledger = ledger
        self._answers = answers

    def looks(
        self, frame: int, clock: Callable[[], float], do: Callable[[list[Action]], object]
    ) -> Callable[[Pixels], bool] | None:
        """See `CameraAnswers.looks`. do: called on the event loop with what a repeat makes necessary."""
        return self._answers.looks(frame, clock, lambda n, look: do(self.repeat(n, look, clock())))

    def repeat(self, frame: int, look: Look, now: float) -> list[Action]:
        """A look found an answer for a frame. If that is audited, it goes on all the same."""
        assert look.answer is not None and look.nearest is not None
        flight = self._ledger.flight(frame)
        payload = None if flight is None else flight.payload
        result = self._ledger.settle_again(frame, look.answer, look.nearest.frame, now, audit=look.audit)
        if flight is None or result is None:
            return []
        if look.audit and payload is not None:
            flight.payload = payload
            return [Emit(result), Send(flight)]
        return [Emit(result)]

    def instead_of_sending(self, flight: Flight, now: float) -> list[Action] | None:
        """What is to be done with a frame whose payload is ready, if it is not sent now. None: it is sent."""
        if flight.state is not State.HELD:
            return None
        look = self._answers.look_again(flight.frame, now)
        if look is None:
            return None
        if look.answer is not None:
            return self.repeat(flight.frame, look, now)
        nearest = self._answers.nearest_of(flight.frame, [f.frame for f in self._ledger if f.state is State.AWAY])
        awaited = None if nearest is None else self._ledger.flight(nearest)
        return [] if awaited is not None and self._frames.wait(flight, awaited, now) else None
