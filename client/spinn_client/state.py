"""The state of a stream: running counts, and a snapshot of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from spinn_client.device.camera_answers import CameraAnswers
from spinn_client.device.device import Device
from spinn_client.frames.results import Result
from spinn_client.frames.slot import FrameSource
from spinn_stream.plan import Plan

if TYPE_CHECKING:
    from spinn_client.link.link import Link

RATE_S = 0.5
"""The uplink's rate is an exponential mean over about this time."""

LinkState = Literal["none", "up", "away"]


class Counts:
    """Counts of results by origin."""

    def __init__(self) -> None:
        self.final = 0
        self.late = 0
        self.where: Counter[str] = Counter()
        self.shortened = 0
        self.repeated = 0

    def add(self, result: Result) -> None:
        if result.kind == "late":
            self.late += 1
        if result.kind == "final":
            self.final += 1
            self.shortened += result.reason == "shortened"
            self.repeated += result.repeats is not None
            self.where["fallback" if result.is_fallback else str(result.where)] += 1


class Rate:
    """The rate of a growing count, over about the last RATE_S."""

    def __init__(self) -> None:
        self._before: tuple[float, int] | None = None
        self._per_s = 0.0

    def of(self, total: int, now: float) -> float:
        """Units a second; 0.0 at the first call."""
        if self._before is None:
            self._before = now, total
        then, before = self._before
        if now - then >= RATE_S / 2:
            share = min(1.0, (now - then) / RATE_S)
            self._per_s += share * ((total - before) / (now - then) - self._per_s)
            self._before = now, total
        return self._per_s


@dataclass(frozen=True)
class State:
    """A stream at one moment. Counts are since it was opened.

    final = device + server + fallback. captured = taken + dropped, plus a frame that waits. fallback: results given
    because the server's answer was wanted and did not come. shortened: of `server`, those of an earlier exit than asked
    for. repeated: of `device`, those that repeat an earlier answer. audits: of these, those whose own answer came, too;
    disagreed: of these, those with another label. exit_audits, exit_disagreed: the same of answers of early exits here.
    load: the device's times over those of its profile.
    server_url: address of the server that frames go to. server_load, server_queue_ms, server_engine: as the server
    reported; None: not known. limited: frames that `max_fps` kept here. unread: results that were dropped unread.
    """

    source: str
    source_up: bool
    link: LinkState
    server_url: str | None
    rtt_ms: float | None
    up_mbps: float
    plan: Plan
    plan_reason: str | None
    load: float
    server_load: float | None
    server_queue_ms: float | None
    server_engine: str | None
    captured: int
    taken: int
    dropped: Mapping[str, int]
    final: int
    device: int
    server: int
    shortened: int
    fallback: int
    late: int
    limited: int
    unread: int
    bytes_up: int
    bytes_down: int
    repeated: int = 0
    audits: int = 0
    disagreed: int = 0
    exit_audits: int = 0
    exit_disagreed: int = 0

    @classmethod
    def of(
        cls, now: float, feed: FrameSource, link: Link | None, device: Device, plan: Plan, reason: str | None,
        counts: Counts, rate: Rate, *, source_up: bool, taken: int, late: int, limited: int, unread: int,
        answers: CameraAnswers,
    ) -> State:  # fmt: skip
        """The state of a stream, from its parts. now: seconds of its clock."""
        where, repeats, audits = counts.where, answers.repeats, answers.audits
        return cls(
            source=feed.name, source_up=source_up,
            link="none" if link is None else "up" if link.up else "away",
            server_url=link.server.config.url if link is not None else None,
            rtt_ms=link.rtt_ms if link is not None and link.up else None,
            up_mbps=rate.of(link.bytes_up if link else 0, now) * 8e-6,
            plan=plan, plan_reason=reason,
            load=device.load_factor(now),
            server_load=link.server_load if link else None,
            server_queue_ms=link.server_queue_ms if link else None,
            server_engine=link.server_profile.runtime if link and link.server_profile else None,
            captured=feed.captured, taken=taken, dropped=dict(feed.dropped),
            final=counts.final, device=where["device"], server=where["server"],
            repeated=counts.repeated, audits=repeats.audits if repeats else 0,
            disagreed=repeats.disagreed if repeats else 0, exit_audits=audits.audits if audits else 0,
            exit_disagreed=audits.disagreed if audits else 0, shortened=counts.shortened, fallback=where["fallback"],
            late=late, limited=limited, unread=unread,
            bytes_up=link.bytes_up if link else 0, bytes_down=link.bytes_down if link else 0,
        )  # fmt: skip
