"""Who says how frames are treated: a fixed plan, or a policy that decides as conditions change."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from spinn_stream.bundle import Bundle
from spinn_stream.codec import CodecSetting, default_setting
from spinn_stream.errors import CodecError, ConfigError
from spinn_stream.plan import Decision, Plan, Policy, Sla, parse_sla, policy


@dataclass(frozen=True)
class Asked:
    """Who decides on plans, and what is asked for."""

    policy: Policy
    sla: Sla

    @classmethod
    def of(cls, policy_name: str, sla: str) -> Asked:
        """Raises ConfigError: there is no such policy, or the SLA cannot be understood."""
        return cls(policy(policy_name), parse_sla(sla))


@dataclass(frozen=True)
class FixedPlan:
    """A plan in a user's words. split: a cut point's name or number. threshold: a number, or "none": no early exit may
    answer. codec: as `transform:7`. What is left out, the bundle says."""

    split: str | None = None
    threshold: str | None = None
    codec: str | None = None

    def of(self, bundle: Bundle, *, has_server: bool) -> Plan:
        """The plan, codec and all.

        Raises:
            ConfigError: what was asked for is not in this bundle, or needs a server.
        """
        threshold = bundle.default_threshold if self.threshold is None else _threshold(self.threshold)
        split = default_split(bundle, threshold) if has_server else bundle.last
        if self.split is not None:
            split = bundle.split_index(self.split)
        if not has_server and split != bundle.last:
            raise ConfigError(
                f"--split {self.split} leaves work for a server: add --server ws://HOST:PORT, or leave out --split"
            )
        codec = None
        if self.codec is not None:
            try:
                codec = CodecSetting.parse(self.codec)
                codec.check_split(split)
                codec.prepare(bundle, split)
            except CodecError as error:
                raise ConfigError(f"--codec: {error}") from error
        return resolved(bundle, Plan(1, split, threshold, codec))


def resolved(bundle: Bundle, plan: Plan) -> Plan:
    """The same plan with the codec that it leaves open; none if it sends nothing."""
    codec = None if plan.split == bundle.last else default_setting(bundle, plan.split, plan.codec)
    return Plan(plan.id, plan.split, plan.confidence_threshold, codec)


def default_split(bundle: Bundle, threshold: float | None) -> int:
    """The early exit nearest to the middle that may answer, so that the device can; if none may, the middle."""
    middle = bundle.last // 2
    return min(bundle.needed(threshold), key=lambda cut: abs(cut - middle), default=middle)


class Guide(Protocol):
    """What the pipeline asks and tells. All methods run on the event loop.

    plan: the one to begin with. reason: why; None: it was asked for.
    """

    plan: Plan
    reason: str | None

    async def run(self, captured: Callable[[], int], change: Callable[[Decision], object]) -> None:
        """Until cancelled. captured: pictures that the source gave so far. change: called with each new plan."""

    def look(self) -> Decision | None:
        """The plan to change to now; None: keep the one in force."""

    def probe(self) -> CodecSetting | None:
        """How the frame taken now is to be coded and sent besides, to learn of the link; None: that is not due."""

    def passed(self, plan: Plan, answered_at: int | None) -> None:
        """A frame went through the device's part of its plan, and was answered by the exit at this cut point or None.

        Not of those that the device finishes alone, where other exits may answer than the plan's.
        """

    def treated(self, overhead_s: float) -> None:
        """A frame's head is done, and its answer given or its payload ready: what that took besides the device's job,
        from the capture on, or from when the device was free for it."""

    def sent(self, plan: Plan, size: int) -> None:
        """A frame's payload of `size` bytes was given to the link."""

    def coded(self, split: int, setting: CodecSetting, size: int) -> None:
        """A frame, or its activation, took `size` bytes."""

    def served(self, plan: Plan, exit_cut: int, arrived_ms: float, left_ms: float) -> None:
        """The server's last answer, by the exit at this cut point, with its stamps."""


class Fixed:
    """Always the same plan. Nothing is learned of the link."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.reason: str | None = None

    async def run(self, captured: Callable[[], int], change: Callable[[Decision], object]) -> None:
        await asyncio.Event().wait()

    def look(self) -> Decision | None:
        return None

    def probe(self) -> CodecSetting | None:
        return None

    def passed(self, plan: Plan, answered_at: int | None) -> None: ...

    def treated(self, overhead_s: float) -> None: ...

    def sent(self, plan: Plan, size: int) -> None: ...

    def coded(self, split: int, setting: CodecSetting, size: int) -> None: ...

    def served(self, plan: Plan, exit_cut: int, arrived_ms: float, left_ms: float) -> None: ...


def _threshold(text: str) -> float | None:
    try:
        value = None if text == "none" else float(text)
    except ValueError:
        value = -1.0
    if value is None or 0 <= value <= 1:
        return value
    raise ConfigError(f"--threshold is {text!r}, expected a number from 0 to 1, or none")
