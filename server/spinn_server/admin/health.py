"""Whether the server takes requests, and why not if not."""

from __future__ import annotations

import enum


class State(enum.Enum):
    """A server's life; see `_NEXT`. The value is what /readyz says."""

    STARTING = "starting"
    READY = "ready"
    DRAINING = "ending"
    FAILED = "failed"


_NEXT = {
    State.STARTING: {State.READY, State.DRAINING, State.FAILED},
    State.READY: {State.DRAINING, State.FAILED},
    State.DRAINING: {State.FAILED},
    State.FAILED: set[State](),
}
"""From each state to those that may follow. A server that has failed stays failed: its process ends."""


class Health:
    """The state of one server."""

    def __init__(self) -> None:
        self.state = State.STARTING
        self._why = "the engine is being set up"

    @property
    def ready(self) -> bool:
        return self.state is State.READY

    @property
    def text(self) -> str:
        """State and reason in one line; the state alone while the server is ready."""
        return self.state.value if self.ready else f"{self.state.value}: {self._why}"

    def become(self, state: State, why: str = "") -> None:
        """Go on to a state.

        Raises:
            ValueError: the state may not follow the present one.
        """
        if state not in _NEXT[self.state]:
            raise ValueError(f"a server that is {self.state.name} does not become {state.name}")
        self.state, self._why = state, why
