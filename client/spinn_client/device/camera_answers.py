"""What is made of the answers for one camera's frames: they are repeated, and early exits are audited by them."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from spinn_stream.bundle import Bundle
from spinn_stream.frame import Pixels
from spinn_stream.plan.predict.exits import CameraRates
from spinn_stream.repeat import DEFAULT_MOST_LOST, Look, Repeats
from spinn_stream.runtime import Answer

from .exit_audits import ExitAudits
from .opening import DeviceConfig


@dataclass(frozen=True)
class CameraAnswers:
    """repeats: the repeat exit; None: every frame is run. audits: of early exits; None: none is audited."""

    repeats: Repeats | None = None
    audits: ExitAudits | None = None
    _one_look: threading.Lock = field(default_factory=threading.Lock)  # the device's thread looks, and the event loop

    @classmethod
    def of(cls, bundle: Bundle, config: DeviceConfig, *, one_camera: bool, ours: bool) -> CameraAnswers:
        """Those of a stream.

        If nobody said, the frames of one camera have both under our own policy. Other policies have no such exits, and
        a fixed plan says how every frame is treated.
        """
        wanted, rate = one_camera and ours, config.audit_rate
        repeats = wanted if config.repeat is None else config.repeat
        return cls(
            Repeats(audit_rate=rate) if repeats else None,
            ExitAudits(bundle, rate) if wanted and rate > 0 else None,
        )

    @property
    def rates(self) -> CameraRates:
        """As learned until now."""
        share, lost = (0.0, 0.0) if self.repeats is None else (self.repeats.share, self.repeats.loss)
        return CameraRates(share, lost, 0.0 if self.audits is None else round(self.audits.lost_beyond, 2))

    def allow(self, most_lost: float | None) -> None:
        """most_lost: accuracy that repeats may cost, 0 to 1; None: nobody has said."""
        if self.repeats is not None:
            self.repeats.most_lost = DEFAULT_MOST_LOST if most_lost is None else most_lost

    def answered(self, frame: int, answer: Answer) -> None:
        """The network has answered a frame, well enough to be repeated."""
        if self.repeats is not None:
            self.repeats.answered(frame, answer)
        if self.audits is not None:
            self.audits.answered(frame, answer)

    def looks(
        self, frame: int, clock: Callable[[], float], repeat: Callable[[int, Look], object]
    ) -> Callable[[Pixels], bool] | None:
        """A function for the device's thread: whether a prepared picture needs no answer of the network.

        Args:
            repeat: called on the event loop if the frame's answer repeats another one; an audit is run all the same.
        """
        loop, repeats = asyncio.get_running_loop(), self.repeats
        if repeats is None:
            return None

        def look(picture: Pixels) -> bool:
            with self._one_look:
                found = repeats.look(frame, picture, clock())
            if found.answer is not None:
                loop.call_soon_threadsafe(repeat, frame, found)
            return found.answer is not None and not found.audit

        return look

    def look_again(self, frame: int, now: float) -> Look | None:
        """See `Repeats.look_again`. None: no answer is repeated, too."""
        with self._one_look:
            return None if self.repeats is None else self.repeats.look_again(frame, now)

    def nearest_of(self, frame: int, under_way: Iterable[int]) -> int | None:
        """See `Repeats.nearest_of`."""
        with self._one_look:
            return None if self.repeats is None else self.repeats.nearest_of(frame, under_way)

    def asks(self, goes_on: Callable[[ExitAudits, Answer], object]) -> Callable[[Answer], bool] | None:
        """A function for the device's thread: whether a frame that an early exit answers goes on.

        Args:
            goes_on: called on the event loop with the exit's answer, if it does.
        """
        loop, audits = asyncio.get_running_loop(), self.audits
        if audits is None:
            return None

        def wanted(answer: Answer) -> bool:
            is_wanted = audits.wanted()
            if is_wanted:
                loop.call_soon_threadsafe(goes_on, audits, answer)
            return is_wanted

        return wanted


NOTHING_MADE = CameraAnswers()
"""Neither repeated nor audited."""
