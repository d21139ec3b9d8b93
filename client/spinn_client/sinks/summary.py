"""The figures of a run: counted while it goes on, summed up at its end (`--summary`)."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from spinn_client.frames.results import FALLBACK, Result
from spinn_stream.bundle import Bundle
from spinn_stream.codec import default_setting
from spinn_stream.plan import Plan
from spinn_stream.text import printable

from .ages import Ages

RECENT = 12
"""How many results are kept to be shown."""

PLANS = 1000
"""Plans that are counted separately, the newest ones: enough for hours of changes every few seconds."""


@dataclass(frozen=True)
class PlanUse:
    """A plan, and why it was taken; None: a user asked for it."""

    plan: Plan
    why: str | None = None


class Tally:
    """Running counts of one run, in constant memory.

    per_plan: frames by the plan's id, of the newest PLANS plans.
    """

    def __init__(self) -> None:
        self.final = 0
        self.late = 0
        self.repeated = 0
        self.where: Counter[str] = Counter()
        self.reasons: Counter[str] = Counter()
        self.servers: Counter[str] = Counter()  # answers by the address of the server
        self.ages = Ages()
        self.per_plan: Counter[int] = Counter()
        self.recent: deque[Result] = deque(maxlen=RECENT)

    def add(self, result: Result) -> None:
        """Count one result; only final ones enter the figures."""
        if result.kind == "late":
            self.late += 1
        if result.kind != "final":
            return
        self.final += 1
        self.recent.append(result)
        self.ages.add(result.age_ms)
        self.per_plan[result.plan] += 1
        if len(self.per_plan) > PLANS:
            del self.per_plan[min(self.per_plan)]
        self.reasons[str(result.reason)] += 1
        self.repeated += result.repeats is not None
        if result.server is not None:
            self.servers[result.server] += 1
        if result.reason in FALLBACK:
            self.where["fallback"] += 1
        elif result.where is not None:
            self.where[result.where] += 1


def summarise(
    tally: Tally,
    *,
    bundle: Bundle,
    plans: Sequence[PlanUse],
    captured: int,
    taken: int,
    dropped: Counter[str],
    late: int,
    limited: int,
    audits: int,
    disagreed: int,
    exit_audits: int,
    exit_disagreed: int,
    bytes_up: int,
    bytes_down: int,
) -> dict[str, Any]:
    """The object of `--summary`. device + server + fallback = final; captured = taken + dropped.

    repeated: of device, answers of the repeat exit. audits: of these, frames that were run all the same; disagreed: of
    these, frames with another label. exit_audits, exit_disagreed: the same of answers of early exits. servers: answers
    by the address of the server that gave them. limited: frames that `--max-offload-fps` kept here.
    plans: from the oldest to the newest; the newest PLANS are listed. The codec of a plan is the one that was used,
    even if the plan left it open; None: nothing is sent. frames_of_earlier_plans: frames of plans that are not listed.
    """
    ages = {q: tally.ages.percentile(q) for q in (50, 99)}
    listed = plans[-PLANS:]
    frames = {use.plan.id: tally.per_plan[use.plan.id] for use in listed}
    return {
        "captured": captured, "taken": taken, "dropped": sum(dropped.values()), "dropped_by": dict(dropped),
        "final": tally.final, "device": tally.where["device"], "server": tally.where["server"],
        "repeated": tally.repeated, "audits": audits, "disagreed": disagreed,
        "exit_audits": exit_audits, "exit_disagreed": exit_disagreed,
        "fallback": tally.where["fallback"], "late": late, "reasons": dict(tally.reasons),
        "servers": dict(tally.servers), "limited": limited,
        "age_ms": {f"p{q}": None if age is None else round(age, 2) for q, age in ages.items()},
        "bytes_up": bytes_up, "bytes_down": bytes_down,
        "plans": [
            {"id": use.plan.id, "split": bundle.cut_points[use.plan.split].name,
             "threshold": use.plan.confidence_threshold, "codec": _codec(bundle, use.plan),
             "frames": frames[use.plan.id], "why": use.why}
            for use in listed
        ],
        "frames_of_earlier_plans": tally.final - sum(frames.values()),
    }  # fmt: skip


def _codec(bundle: Bundle, plan: Plan) -> str | None:
    return None if plan.split == bundle.last else str(default_setting(bundle, plan.split, plan.codec))


def show_summary(console: Console, summary: dict[str, Any], seconds: float) -> None:
    """The summary for people."""
    final = max(1, summary["final"])

    def share(key: str) -> str:
        return f"{summary[key]:6d}  {100 * summary[key] / final:5.1f} %"

    table = Table(box=None, show_header=False, padding=(0, 2))
    table.add_row("frames captured", f"{summary['captured']:6d}")
    table.add_row("taken in", f"{summary['taken']:6d}", f"{summary['taken'] / max(seconds, 1e-9):.1f} frames/s")
    table.add_row("dropped", f"{summary['dropped']:6d}", _counts(summary["dropped_by"]))
    table.add_row("answered on the device", share("device"))
    if summary["repeated"]:
        audited = f"{summary['audits']} audited, {summary['disagreed']} of them with another label"
        table.add_row("of these, repeats", share("repeated"), audited)
    if summary["exit_audits"]:
        another = f"{summary['exit_disagreed']} of them with another label"
        table.add_row("early answers audited", f"{summary['exit_audits']:6d}", another)
    several = _counts(summary["servers"]) if len(summary["servers"]) > 1 else ""
    table.add_row("answered by the server", share("server"), several)
    if shortened := summary["reasons"].get("shortened"):
        table.add_row("of these, at an earlier exit", f"{shortened:6d}", "the server was overloaded")
    table.add_row("answered alone in trouble", share("fallback"), _counts(summary["reasons"], FALLBACK))
    ages = summary["age_ms"]
    if ages["p50"] is not None:
        table.add_row("age of the answers", f"median {ages['p50']:.1f} ms", f"99 % within {ages['p99']:.1f} ms")
    table.add_row("sent, received", f"{summary['bytes_up'] / 1e6:.2f} MB", f"{summary['bytes_down'] / 1e6:.2f} MB")
    console.print(table)


def _counts(counts: dict[str, int], only: frozenset[Any] | None = None) -> Text:
    return Text(printable(", ".join(f"{n} {name}" for name, n in counts.items() if only is None or name in only)))
