"""Asks the scheduler for plans as link, loads and server change."""

from __future__ import annotations

import asyncio
import functools
import logging
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, NamedTuple

from spinn_client.device.camera_answers import NOTHING_MADE, CameraAnswers
from spinn_client.device.device import Device
from spinn_stream.bundle import Bundle
from spinn_stream.codec import CodecSetting
from spinn_stream.plan import Conditions, Decision, Figures, LinkBelief, Plan, Prober, Scheduler, build_table
from spinn_stream.plan.predict.exits import CameraRates
from spinn_stream.plan.predict.power import EnergyRates
from spinn_stream.profile import Profile
from spinn_stream.runtime.machine.host import THIS_MACHINE, Host

from .guide import Asked, Guide
from .learned import Learned, Pictures

if TYPE_CHECKING:
    from spinn_client.link.link import Link
    from spinn_client.link.server_link import ServerLink

log = logging.getLogger(__name__)

LOOK_S, RATE_S = 0.2, 1.0
"""Times between two looks at all plans, and between two counts of the source's rate."""

MOST_OVERHEAD_MS = 5.0
"""More than this in one frame is a disturbance and no overhead."""

UNPACED_FPS, FIRST_FPS = 1000.0, 30.0
"""Rates of a source that gives frames as fast as they are taken, and of any other one that has none, until counted."""

STEP = 0.1
"""What was learned is worth a new table if a log-odds of an exit, or the share of repeats, has moved by this."""

REST_S = 3.0
"""Shortest time between two such tables: setting one up takes some tenths of a second."""


class _Way:
    """What is known of one server and the link to it."""

    def __init__(self, server: ServerLink, now: float) -> None:
        self.belief, self.prober = LinkBelief(now, server.ping_soon), Prober(now)
        server.observe(self.belief)


class _Known(NamedTuple):
    """What a table is set up from, besides the bundle: the arguments of `build_table`."""

    device: Profile
    server: Profile
    encoding: Mapping[str, float]
    shifts: tuple[float, ...]
    rates: CameraRates


class Steering(Guide):
    """With a scheduler. May be made in any thread; blocks while its tables are set up.

    Args:
        fps: of the source; None: it is counted. rates: what the device takes; None: one core of a small board.
        answers: their repeat exit is told what it may cost. first_id: of the first plan.

    Raises:
        ConfigError: the policy has no plan for this bundle.
    """

    def __init__(
        self, bundle: Bundle, asked: Asked, device: Device, link: Link | None, *, deadline_ms: float, fps: float | None,
        unpaced: bool, rates: EnergyRates | None = None, host: Host = THIS_MACHINE,
        answers: CameraAnswers = NOTHING_MADE, first_id: int = 1,
    ) -> None:  # fmt: skip
        self._bundle, self._device, self._link, self._answers = bundle, device, link, answers
        self.deadline_ms = deadline_ms
        self._now = host.clock
        self._thread = host.worker("plans")  # one of low priority would keep the interpreter's lock while it waits
        now = self._now()
        self._fps = UNPACED_FPS if unpaced else fps or FIRST_FPS
        self._counts = fps is None and not unpaced
        self._counted: tuple[float, int] = (now, 0)
        self._pictures = Pictures(bundle)
        self._overhead = Learned()  # of the device for a frame, ms
        self._server: Profile | None = None  # of the server, once it is known
        self._known, self._known_since = self._known_now(), now
        self._ways = [] if link is None else [_Way(server, now) for server in link.servers]
        table = build_table(bundle, *self._known)
        self._whole = table.reference  # accuracy of the whole network
        self._scheduler = Scheduler(bundle, table, asked.sla, chooses=asked.policy, rates=rates, first_id=first_id)
        self._begin(asked)

    def agree(self, asked: Asked, first_id: int) -> None:
        """Plan by another goal from now on; `plan` and `reason` are then the new ones.

        Args:
            first_id: of the plans from now on.

        Raises:
            ConfigError: the policy has no plan for this bundle; all stays as it was.
        """
        self._scheduler.agree(asked.sla, asked.policy, first_id)
        self._begin(asked)

    def _begin(self, asked: Asked) -> None:
        self._answers.allow(asked.sla.most_lost(self._whole))
        decision = self.look()
        assert decision is not None  # the first one always is a plan
        self.plan, self.reason = decision.plan, decision.reason

    @property
    def _way(self) -> _Way | None:
        """To the server that frames go to."""
        return None if self._link is None else self._ways[self._link.active]

    def close(self) -> None:
        """Begin nothing more."""
        self._thread.shutdown(wait=False, cancel_futures=True)

    async def run(self, captured: Callable[[], int], change: Callable[[Decision], object]) -> None:
        while True:
            await asyncio.sleep(LOOK_S)
            await self._meet_profiles()
            self._count_frames(self._now(), captured())
            decision = self.look()
            if decision is not None:
                change(decision)

    def look(self) -> Decision | None:
        now = self._now()
        return self._scheduler.decide(now, self._conditions(now))

    def forecast(self) -> Figures:
        """The figures of the best plan from now on. It is the one in force unless a change is pending.

        They use the medians of the link's belief; plans are chosen by less favourable quantiles.
        """
        return self._scheduler.choose(self._conditions(self._now(), 0.5, 0.5)).figures

    def probe(self) -> CodecSetting | None:
        way = self._way
        ready = self._link is not None and self._link.ready
        return way.prober.due(self._now(), way.belief) if way is not None and ready else None

    def sent(self, plan: Plan, size: int) -> None:
        if self._way is not None:
            self._way.prober.used(self._now())
        if plan.codec is not None:
            self.coded(plan.split, plan.codec, size)

    def coded(self, split: int, setting: CodecSetting, size: int) -> None:
        self._pictures.coded(split, setting, size)

    def went(self, plan: Plan, start: int, stop: int, answered_at: int | None) -> None:
        self._pictures.went(plan.confidence_threshold, start, stop, answered_at)

    def treated(self, overhead_s: float) -> None:
        self._overhead.add(0.0, min(max(overhead_s * 1000, 0.0), MOST_OVERHEAD_MS))

    def _known_now(self) -> _Known:
        self._server = (self._link.server_profile if self._link is not None else None) or self._server
        device, factors = self._device.profile, self._device.encoding_factors
        return _Known(device, self._server or device, factors, self._pictures.shifts, self._answers.rates)

    async def _meet_profiles(self) -> None:
        """Plan with a new profile as soon as it is known, and with what was learned, but not too often."""
        known, before, now = self._known_now(), self._known, self._now()
        pairs = zip((*known.shifts, known.rates.share), (*before.shifts, before.rates.share), strict=True)
        moved = any(abs(a - b) >= STEP for a, b in pairs) or known.rates.early_lost != before.rates.early_lost
        moved = moved or known.encoding != before.encoding
        same_profiles = (known.device, known.server) == (before.device, before.server)
        if same_profiles and not (moved and now - self._known_since >= REST_S):
            return
        self._known, self._known_since = known, now
        try:
            made = functools.partial(build_table, self._bundle, *known)
            self._scheduler.use_table(await asyncio.get_running_loop().run_in_executor(self._thread, made))
        except ValueError as error:
            log.error("the server's profile cannot be planned with: %s", error)

    def _conditions(self, now: float, *levels: float) -> Conditions:
        link, way = self._link, self._way
        return Conditions(
            link=way.belief.state(now, *levels) if way is not None and link is not None and link.up else None,
            device_load=self._device.load_of_prediction(now),
            server_load=(link.server_load if link is not None else None) or 1.0,
            server_queue_ms=(link.server_queue_ms if link is not None else None) or 0.0,
            device_overhead_ms=self._overhead.beyond,
            fps=self._fps,
            deadline_ms=self.deadline_ms,
            payload_factors=self._pictures.payload_factors,
        )

    def _count_frames(self, now: float, captured: int) -> None:
        since, before = self._counted
        if now - since >= RATE_S:
            if captured > before and self._counts:
                self._fps = (captured - before) / (now - since)
            self._counted = now, captured
