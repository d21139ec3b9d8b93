"""What decides on plans: a fixed plan, or a policy that follows the conditions."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

from spinn_stream.bundle import Bundle
from spinn_stream.codec import CodecSetting, default_setting
from spinn_stream.errors import CodecError, ConfigError
from spinn_stream.plan import Decision, Plan, Policy, Sla, parse_sla, policy


@dataclass(frozen=True)
class Asked:
    """A policy, and the goal it is given."""

    policy: Policy
    sla: Sla

    @classmethod
    def of(cls, policy_name: str, sla: str) -> Asked:
        """Raises ConfigError: there is no such policy, or the SLA cannot be understood."""
        return cls(policy(policy_name), parse_sla(sla))


@dataclass(frozen=True)
class FixedPlan:
    """A plan in a user's words. split: a cut point's name or number. threshold: a number, or "none": no early exit
    answers. codec: such as `transform:7`. The bundle has the default of each."""

    split: str | None = None
    threshold: str | None = None
    codec: str | None = None

    def of(self, bundle: Bundle, *, has_server: bool) -> Plan:
        """The plan, with its codec.

        Raises:
            ConfigError: the plan does not fit this bundle, or needs a server.
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
    """The same plan with a codec, if it leaves that open; without one if it sends nothing."""
    codec = None if plan.split == bundle.last else default_setting(bundle, plan.split, plan.codec)
    return Plan(plan.id, plan.split, plan.confidence_threshold, codec)


def default_split(bundle: Bundle, threshold: float | None) -> int:
    """The cut point of the early exit nearest to the middle that may answer; if none may, the middle."""
    middle = bundle.last // 2
    return min(bundle.needed(threshold), key=lambda cut: abs(cut - middle), default=middle)


class Guide:
    """Decides on plans for the pipeline, and is told what happens. All methods run on the event loop.

    This one always has the same plan, and learns nothing.

    plan: the first one. reason: why; None: a user asked for it.
    """

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.reason: str | None = None

    async def run(self, captured: Callable[[], int], change: Callable[[Decision], object]) -> None:
        """Until cancelled. captured: pictures that the source gave so far. change: called with each new plan."""
        await asyncio.Event().wait()

    def look(self) -> Decision | None:
        """The plan to change to now; None: keep the one in force."""
        return None

    def probe(self) -> CodecSetting | None:
        """If a probe is due, how to code the present frame for it; None: none is due."""
        return None

    def went(self, plan: Plan, start: int, stop: int, answered_at: int | None) -> None:
        """A frame that the device does not finish alone went from one cut point to another.

        answered_at: cut point of the exit that answered on this way; None: none did.
        """

    def treated(self, overhead_s: float) -> None:
        """A head is done. overhead_s: besides the device's job, from the capture, or from when the device was free."""

    def sent(self, plan: Plan, size: int) -> None:
        """A frame's payload of `size` bytes was given to the link."""

    def coded(self, split: int, setting: CodecSetting, size: int) -> None:
        """A frame, or its activation, was coded in `size` bytes."""


def _threshold(text: str) -> float | None:
    try:
        value = None if text == "none" else float(text)
    except ValueError:
        value = -1.0
    if value is None or 0 <= value <= 1:
        return value
    raise ConfigError(f"--threshold is {text!r}, expected a number from 0 to 1, or none")
