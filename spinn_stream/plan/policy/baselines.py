"""Our policy and the baselines: each is a set of plans and a goal for the same scheduler. Each names its source, and
how it departs from it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from spinn_stream.bundle import Bundle
from spinn_stream.codec.payload_tables import setting_of, smallest_row
from spinn_stream.errors import ConfigError
from spinn_stream.plan.predict.plan_table import PlanTable
from spinn_stream.plan.sla.sla import METRICS, Constraint, Sla, Target

Mask = npt.NDArray[np.bool_]

SAME_EXIT = 0.999
"""If one exit answers at least this share of the frames under a threshold, the threshold stands for that exit."""

EDGENT_LATENCY_MS = 100.0
"""Edgent's target if neither the agreement nor a deadline states one."""


@dataclass(frozen=True)
class Policy:
    """plans: (P,), which of a table's plans it may choose. sla: its goal, given the user's and the deadline."""

    name: str
    source: str
    plans: Callable[[Bundle, PlanTable], Mask]
    sla: Callable[[Sla, float | None], Sla] = lambda sla, deadline_ms: sla


def policy(name: str) -> Policy:
    """The policy of this name.

    Raises:
        ConfigError: there is none.
    """
    found = POLICIES.get(name)
    if found is None:
        raise ConfigError(f"policy {name!r:.40}, expected one of {', '.join(POLICIES)}")
    return found


def without_exits(bundle: Bundle, table: PlanTable) -> Mask:
    """(P,), whether no early exit may answer."""
    plain = [threshold is None or not bundle.needed(threshold) for threshold in table.thresholds]
    return np.array(plain)[table.threshold]


def one_exit(bundle: Bundle, table: PlanTable) -> Mask:
    """(P,), whether one exit answers all frames."""
    alone = [max(row.share) >= SAME_EXIT for row in bundle.thresholds]  # the row of no threshold, if any, comes last
    return np.array([*alone, True])[table.threshold]


def one_setting(bundle: Bundle, table: PlanTable) -> Mask:
    """(P,), whether a plan has its cut point's default codec: the smallest that keeps the accuracy, else the finest."""
    found = table.split == table.last
    for split in range(table.last):
        here, row = table.split == split, smallest_row(bundle, split)
        usual = [row is not None and setting == setting_of(row) for setting in table.settings]
        keeps = here & np.array([*usual, False])[table.setting]
        found |= keeps if keeps.any() else here & (table.size == table.size[here].max(initial=0.0))
    return np.asarray(found)


def _fastest(sla: Sla, deadline_ms: float | None) -> Sla:
    """Latency, or energy if that is the user's first target: Neurosurgeon's two objectives."""
    first = sla.targets[0].metric.name
    return Sla((), (Target(METRICS["device_energy" if first == "device_energy" else "latency_ms"], 0.0),))


def _in_time(sla: Sla, deadline_ms: float | None) -> Sla:
    """The most accurate within a latency target: the user's, else the deadline, else 100 ms."""
    asked = [c for c in sla.constraints if c.metric.name.startswith("latency_ms")]
    bound = EDGENT_LATENCY_MS if deadline_ms is None else deadline_ms
    constraints = tuple(asked) or (Constraint(METRICS["latency_ms"], bound),)
    return Sla(constraints, (Target(METRICS["accuracy"], 0.0, True), Target(METRICS["latency_ms"])))


POLICIES: dict[str, Policy] = {
    known.name: known
    for known in (
        Policy(
            "spinn",
            "Every split, threshold and setting (SPINN, MobiCom 2020; the setting is ours, after DynO).",
            lambda bundle, table: np.ones(len(table), bool),
        ),
        Policy(
            "device-only",
            "The whole network on the device, no exit answers: SPINN's on-device baseline.",
            lambda bundle, table: np.asarray((table.split == table.last) & without_exits(bundle, table)),
        ),
        Policy(
            "server-only",
            "The frame goes up, the whole network runs there, no exit answers: SPINN's server baseline. Departs: "
            "sends the coarsest picture that keeps the accuracy; the original sends the input tensor.",
            lambda bundle, table: (table.split == 0) & without_exits(bundle, table) & one_setting(bundle, table),
        ),
        Policy(
            "neurosurgeon",
            "Any one split of the network, no exits (Kang et al., Neurosurgeon, ASPLOS 2017). Departs: activations "
            "are coded at the smallest setting that keeps the accuracy; the original sends floats. Layer times are "
            "measured; the original regresses them. The server's queue counts.",
            lambda bundle, table: without_exits(bundle, table) & one_setting(bundle, table),
            _fastest,
        ),
        Policy(
            "edgent",
            "One exit that answers all frames, and one split (Li et al., Edgent, MECOMM 2018; IEEE TWC 2020). "
            "Departs: a plan names a threshold, not an exit. So only exits that answer all frames under some "
            "threshold of the bundle can be chosen: often the first and the final one. The coding is as for "
            "Neurosurgeon.",
            lambda bundle, table: one_exit(bundle, table) & one_setting(bundle, table),
            _in_time,
        ),
        Policy(
            "dyno",
            "Split and precision, no exits (Almeida et al., DynO, ACM TECS 2022; arXiv 2104.09949). Departs: "
            "precisions are codec settings, measured for each cut point; the original packs to a bit width. Like the "
            "original, it keeps to the user's goal.",
            without_exits,
        ),
    )
}
"""By name, as `--policy` takes them."""
