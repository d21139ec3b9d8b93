"""Asks the scheduler for plans as link, loads and server change."""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from spinn_client.device.device import Device
from spinn_stream.bundle import Bundle
from spinn_stream.codec import CodecSetting
from spinn_stream.errors import ConfigError
from spinn_stream.plan import (
    Conditions,
    Decision,
    Figures,
    LinkBelief,
    Plan,
    PlanTable,
    PowerMeter,
    Prober,
    Scheduler,
    build_table,
)
from spinn_stream.plan.predict.codec_costs import default_cost
from spinn_stream.plan.predict.exit_shares import RepeatRates
from spinn_stream.profile import Profile
from spinn_stream.repeat import DEFAULT_MOST_LOST, Repeats
from spinn_stream.runtime.machine.host import THIS_MACHINE, Host

from .exit_rates import ExitRates
from .guide import Asked
from .repeat_share import RepeatShare

if TYPE_CHECKING:
    from spinn_client.link.link import Link
    from spinn_client.link.server_link import ServerLink

log = logging.getLogger(__name__)

LOOK_S = 0.1
"""Time between two looks at the conditions; the scheduler decides whether to plan anew."""

RATE_S = 1.0
"""The source's rate is counted over this time."""

OVERHEAD_STEP = 0.05
"""How fast the device's overhead for a frame is learned: a share of the difference."""

MOST_OVERHEAD_MS = 5.0
"""More than this in one frame is a disturbance and no overhead."""

SERVER_OVERHEAD_STEP_MS = 0.1
"""How fast the server's overhead is learned: each answer is a step up or down, so the median is found."""

MOST_SERVER_OVERHEAD_MS = 5.0

MOST_QUEUE_MS = 1.0
"""If requests wait for longer on the server, the time of a request is not used to learn the overhead."""

UNPACED_FPS = 1000.0
"""Stands for a source that gives frames as fast as they are taken."""

FIRST_FPS = 30.0
"""The rate of a source without one, until it was counted."""

PAYLOAD_STEP = 0.05
"""How fast payload sizes, relative to the tables', are learned: a share of the difference for each payload."""

PROBES = tuple(
    (CodecSetting("jpeg", quality), least)
    for quality, least in ((5, 0), (30, 1200), (60, 2000), (80, 3500), (95, 6000))
)
"""Settings of a probe, each with the smallest size it is used for: the finest that fits is taken."""


class _Way:
    """What is known of one server and the link to it."""

    def __init__(self, server: ServerLink, now: float) -> None:
        self.belief, self.prober = LinkBelief(now, server.ping_soon), Prober(now)
        self.overhead_ms = 0.0  # of the server, besides what is predicted
        self._done_ms = -math.inf  # when it had answered all that it has answered, on its clock
        server.observe(self.belief)

    def began_ms(self, arrived_ms: float, left_ms: float) -> float:
        """When the server could begin with what it answered last: there, and done with the one before; on its clock."""
        began = max(arrived_ms, self._done_ms) if self._done_ms <= left_ms else arrived_ms  # else another clock
        self._done_ms = left_ms
        return began


@dataclass(frozen=True)
class _Known:
    """What a table is set up from, besides the bundle. server: None: its profile is not known yet."""

    device: Profile
    server: Profile | None
    encoding: Mapping[str, float]
    shifts: tuple[float, ...]
    repeats: RepeatRates

    def table(self, bundle: Bundle) -> PlanTable:
        server = self.server or self.device
        return build_table(bundle, self.device, server, self.encoding, self.shifts, self.repeats)


class Steering:
    """A `Guide` with a scheduler. May be made in any thread; blocks while its tables are set up.

    Args:
        fps: of the source; None: it is counted. power: what the device takes; None: one core of a small board.
        repeats: the repeat exit; it is told what it may cost.
        first_id: of the first plan.

    Raises:
        ConfigError: the policy has no plan for this bundle.
    """

    def __init__(
        self,
        bundle: Bundle,
        asked: Asked,
        device: Device,
        link: Link | None,
        *,
        deadline_ms: float,
        fps: float | None,
        unpaced: bool,
        power: PowerMeter | None = None,
        repeats: Repeats | None = None,
        host: Host = THIS_MACHINE,
        first_id: int = 1,
    ) -> None:
        self._bundle = bundle
        self._device = device
        self._link = link
        self.deadline_ms = deadline_ms
        self._fps = UNPACED_FPS if unpaced else fps
        self._now = host.clock
        self._thread = host.worker("plans")  # one of low priority would keep the interpreter's lock while it waits
        now = self._now()
        self._counted: tuple[float, int] = (now, 0)
        self._counted_fps = FIRST_FPS
        self._payload_factors: dict[str, float] = {}
        self._rates = ExitRates(bundle)
        self._overhead_ms = 0.0
        self._expected_bytes = {(row.cut, row.codec): row.bytes_mean for row in bundle.payloads}
        self._repeats, self._repeat_share = repeats, RepeatShare(repeats)
        self._known = _Known(device.profile, None, {}, self._rates.shifts(now), self._repeat_share.rates(now))
        self._ways = [] if link is None else [_Way(server, now) for server in link.servers]
        table = self._known.table(bundle)
        self._whole = table.reference  # accuracy of the whole network
        try:
            self._scheduler = Scheduler(bundle, table, asked.sla, chooses=asked.policy, power=power, first_id=first_id)
        except ValueError as error:
            raise _no_plan(bundle, error) from error
        self._allow_repeats(asked)
        self._decide_first()

    def agree(self, asked: Asked, first_id: int) -> None:
        """Plan by another goal from now on; `plan` and `reason` are then the new ones.

        Args:
            first_id: of the plans from now on.

        Raises:
            ConfigError: the policy has no plan for this bundle; all stays as it was.
        """
        try:
            self._scheduler.agree(asked.sla, asked.policy, first_id)
        except ValueError as error:
            raise _no_plan(self._bundle, error) from error
        self._allow_repeats(asked)
        self._decide_first()

    @property
    def _way(self) -> _Way | None:
        """To the server that frames go to."""
        return None if self._link is None else self._ways[self._link.active]

    def close(self) -> None:
        """Begin nothing more."""
        self._thread.shutdown(wait=False, cancel_futures=True)

    def _decide_first(self) -> None:
        now = self._now()
        decision = self._scheduler.decide(now, self._conditions(now))
        assert decision is not None  # the first one always is a plan
        self.plan: Plan = decision.plan
        self.reason: str | None = decision.reason

    async def run(self, captured: Callable[[], int], change: Callable[[Decision], object]) -> None:
        """See `Guide`."""
        while True:
            await asyncio.sleep(LOOK_S)
            await self._meet_profiles()
            self._count_frames(self._now(), captured())
            decision = self.look()
            if decision is not None:
                change(decision)

    def look(self) -> Decision | None:
        """See `Guide`."""
        now = self._now()
        return self._scheduler.decide(now, self._conditions(now))

    def forecast(self) -> Figures:
        """The figures of the best plan from now on. It is the one in force unless a change is pending.

        They use the medians of the link's belief; plans are chosen by less favourable quantiles.
        """
        now = self._now()
        conditions = self._conditions(now)
        if conditions.link is not None and self._way is not None:
            middle = self._way.belief.bounds(now, 0.5, 0.5)
            conditions = replace(
                conditions, link=replace(conditions.link, up_mbps=middle.up_mbps, rtt_ms=middle.rtt_ms)
            )
        return self._scheduler.choose(conditions).figures

    def probe(self) -> CodecSetting | None:
        """See `Guide`."""
        way = self._way
        if way is None or self._link is None or not self._link.ready:
            return None
        size = way.prober.due(self._now(), way.belief)
        if size is None:
            return None
        return next(setting for setting, least in reversed(PROBES) if size >= least)

    def sent(self, plan: Plan, size: int) -> None:
        """See `Guide`."""
        if self._way is not None:
            self._way.prober.used(self._now())
        if plan.codec is not None:
            self.coded(plan.split, plan.codec, size)

    def coded(self, split: int, setting: CodecSetting, size: int) -> None:
        """See `Guide`."""
        expected = self._expected_bytes.get((split, str(setting)))
        if expected:
            before = self._payload_factors.get(setting.codec, 1.0)
            self._payload_factors[setting.codec] = before + PAYLOAD_STEP * (size / expected - before)

    def passed(self, plan: Plan, answered_at: int | None) -> None:
        """See `Guide`."""
        self._rates.went(plan.confidence_threshold, 0, plan.split, answered_at)

    def treated(self, overhead_s: float) -> None:
        """See `Guide`."""
        ms = min(max(overhead_s * 1000, 0.0), MOST_OVERHEAD_MS)
        self._overhead_ms += OVERHEAD_STEP * (ms - self._overhead_ms)

    def served(self, plan: Plan, exit_cut: int, arrived_ms: float, left_ms: float) -> None:
        """Learn from the server's stamps of the last answer, and from the cut point of the exit that gave it.

        Learns the server's overhead, mostly of its event loop and threads: its time beyond the queue and the profile's
        time under its load. A wait for another frame of this client is taken off. If frames of other clients wait
        there, only the exit is learned from.
        """
        self._rates.went(plan.confidence_threshold, plan.split, self._bundle.last, exit_cut)
        profile, link, way = self._known.server, self._link, self._way
        if link is None or way is None:
            return
        began_ms = way.began_ms(arrived_ms, left_ms)
        if profile is None or exit_cut <= plan.split:
            return
        if began_ms == arrived_ms and (link.server_queue_ms or 0.0) > MOST_QUEUE_MS:
            return
        needed = self._bundle.needed(plan.confidence_threshold)
        pieces = self._bundle.pieces(plan.split, exit_cut, needed)
        if plan.codec is None:
            return
        decode = default_cost(plan.codec, self._bundle.cut_points[plan.split].elements).decode_ms
        expected = decode + profile.expected_ms(pieces, needed.keys() & {stop for _, stop in pieces})
        besides = left_ms - began_ms - (link.server_load or 1.0) * expected
        step = math.copysign(SERVER_OVERHEAD_STEP_MS, besides - way.overhead_ms)
        way.overhead_ms = min(max(way.overhead_ms + step, 0.0), MOST_SERVER_OVERHEAD_MS)

    async def _meet_profiles(self) -> None:
        """Plan with the server's own profile as soon as it is known, and with what the device has learned about
        itself."""
        before = self._known
        server = (None if self._link is None else self._link.server_profile) or before.server
        shifts, repeats = self._rates.shifts(self._now()), self._repeat_share.rates(self._now())
        self._known = _Known(self._device.profile, server, self._device.encoding_factors, shifts, repeats)
        if self._known == before:  # the same figures from a new connection are compared once
            return
        loop = asyncio.get_running_loop()
        try:
            table = await loop.run_in_executor(self._thread, self._known.table, self._bundle)
            self._scheduler.use_table(table)
        except ValueError as error:
            log.error("the server's profile cannot be planned with: %s", error)

    def _conditions(self, now: float) -> Conditions:
        link, way = self._link, self._way
        return Conditions(
            link=way.belief.state(now) if way is not None and link is not None and link.up else None,
            device_load=self._device.load_of_prediction(now),
            server_load=(link.server_load if link is not None else None) or 1.0,
            server_queue_ms=(link.server_queue_ms if link is not None else None) or 0.0,
            device_overhead_ms=self._overhead_ms,
            server_overhead_ms=0.0 if way is None else way.overhead_ms,
            fps=self._fps or self._counted_fps,
            deadline_ms=self.deadline_ms,
            payload_factors=dict(self._payload_factors),
        )

    def _allow_repeats(self, asked: Asked) -> None:
        if self._repeats is not None:
            allowed = asked.sla.most_lost(self._whole)
            self._repeats.most_lost = DEFAULT_MOST_LOST if allowed is None else allowed

    def _count_frames(self, now: float, captured: int) -> None:
        since, before = self._counted
        if now - since >= RATE_S:
            if captured > before:
                self._counted_fps = (captured - before) / (now - since)
            self._counted = now, captured


def _no_plan(bundle: Bundle, error: ValueError) -> ConfigError:
    return ConfigError(f"bundle {bundle.name}: {error}; take another --policy, or fix a plan")
