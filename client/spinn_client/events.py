"""What happens to a stream besides its results: each event is a line for people and fields for programs.

SourceLost, SourceBack, SourceChanged, SourceEnded     the camera
ServerLost, ServerRefusedUs, ServerBack, ServerChanged the server
PlanChanged                                            what is done with frames
Warned                                                 anything else that a user should know
"""

from __future__ import annotations

from dataclasses import dataclass

from spinn_stream.plan import Plan

__all__ = [
    "Event",
    "Noted",
    "PlanChanged",
    "ServerBack",
    "ServerChanged",
    "ServerLost",
    "ServerRefusedUs",
    "SourceBack",
    "SourceChanged",
    "SourceEnded",
    "SourceLost",
    "Warned",
]


@dataclass(frozen=True)
class Event:
    """Something that happened. at: when, in seconds of the client's clock (`time.monotonic`)."""

    at: float

    @property
    def text(self) -> str:
        """One line, for people."""
        raise NotImplementedError


@dataclass(frozen=True)
class SourceLost(Event):
    """The source gives no more pictures; a camera or stream is opened again with growing pauses. why: one line."""

    source: str
    why: str

    @property
    def text(self) -> str:
        return f"lost {self.source}: {self.why}; waiting for it to come back"


@dataclass(frozen=True)
class SourceBack(Event):
    """The source gives pictures again. away_s: how long it gave none."""

    source: str
    away_s: float

    @property
    def text(self) -> str:
        return f"{self.source} is back after {self.away_s:.1f} s"


@dataclass(frozen=True)
class SourceChanged(Event):
    """Pictures have another size from now on: (height, width)."""

    source: str
    before: tuple[int, int]
    after: tuple[int, int]

    @property
    def text(self) -> str:
        (h, w), (height, width) = self.before, self.after
        return f"{self.source} gives pictures of {width}x{height} now; they were {w}x{h}"


@dataclass(frozen=True)
class SourceEnded(Event):
    """The source is at its end. why: more about it, if there is more to say: that a file ended early, for instance."""

    source: str
    why: str = ""

    @property
    def text(self) -> str:
        return f"{self.source} ended" + (f": {self.why}" if self.why else "")


@dataclass(frozen=True)
class ServerLost(Event):
    """The connection ended. why: one line. instead: the server that answers now; None: the device answers alone."""

    server: str
    why: str
    instead: str | None = None

    @property
    def text(self) -> str:
        return f"lost the server {self.server} ({self.why}); answering {self._how}"

    @property
    def _how(self) -> str:
        return "on the device alone" if self.instead is None else f"with {self.instead}"


@dataclass(frozen=True)
class ServerChanged(Event):
    """Frames go to another server from now on: the one before is in doubt, or a better one is well again."""

    before: str
    server: str

    @property
    def text(self) -> str:
        return f"frames go to {self.server} from now on, no more to {self.before}"


@dataclass(frozen=True)
class ServerRefusedUs(Event):
    """A server answers and refuses us. The client tries again, since another server may answer then. why: one line."""

    server: str
    why: str

    @property
    def text(self) -> str:
        return f"the server {self.server} refuses: {self.why}"


@dataclass(frozen=True)
class ServerBack(Event):
    """Connected to the server, for the first time or again."""

    server: str

    @property
    def text(self) -> str:
        return f"the server {self.server} is there"


@dataclass(frozen=True)
class PlanChanged(Event):
    """Frames have another plan from now on. reason: the scheduler's, in words; None: a user asked for the plan."""

    plan: Plan
    reason: str | None

    @property
    def text(self) -> str:
        return f"plan {self.plan.id}: {self.reason or 'as asked'}"


@dataclass(frozen=True)
class Noted(Event):
    """Something that a user may want to know: that the machine is measured first, for instance. what: one line."""

    what: str

    @property
    def text(self) -> str:
        return self.what


@dataclass(frozen=True)
class Warned(Event):
    """Something that a user should know. what: one line."""

    what: str

    @property
    def text(self) -> str:
        return f"warning: {self.what}"
