"""Our policy and the baselines: each is a set of plans and a goal, for one and the same scheduler.

All predict with the same tables and choose by the same rule. They differ in their plans and in their goal. Each
function names its source and how it departs from it.
"""

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
    sla: Callable[[Sla, float | None], Sla]


def policy(name: str) -> Policy:
    """The policy of this name.

    Raises:
        ConfigError: there is none.
    """
    found = POLICIES.get(name)
    if found is None:
        raise ConfigError(f"policy {name!r:.40}, expected one of {', '.join(POLICIES)}")
    return found


def _spinn(bundle: Bundle, table: PlanTable) -> Mask:
    """Every split, threshold and setting (SPINN, MobiCom 2020; the setting is ours, after DynO)."""
    return np.ones(len(table), bool)


def _device_only(bundle: Bundle, table: PlanTable) -> Mask:
    """The whole network on the device, no exit answers: SPINN's on-device baseline."""
    return np.asarray((table.split == table.last) & without_exits(bundle, table))


def _server_only(bundle: Bundle, table: PlanTable) -> Mask:
    """The frame goes up, the whole network runs there, no exit answers: SPINN's server baseline.

    Departs: sends the coarsest picture that keeps the accuracy; the original sends the input tensor.
    """
    return np.asarray((table.split == 0) & without_exits(bundle, table) & one_setting(bundle, table))


def _neurosurgeon(bundle: Bundle, table: PlanTable) -> Mask:
    """Any one split of the network, no exits (Kang et al., Neurosurgeon, ASPLOS 2017).

    Departs: activations are coded at the smallest setting that keeps the accuracy; the original sends floats. Layer
    times are measured; the original regresses them. The server's queue counts.
    """
    return without_exits(bundle, table) & one_setting(bundle, table)


def _edgent(bundle: Bundle, table: PlanTable) -> Mask:
    """One exit that answers all frames, and one split (Li et al., Edgent, MECOMM 2018; IEEE TWC 2020).

    Departs: a plan names a threshold, not an exit. So only exits that answer all frames under some threshold of the
    bundle
    can be chosen: often the first and the final one. The coding is as for Neurosurgeon.
    """
    alone = np.array([max(row.share) >= SAME_EXIT for row in bundle.thresholds])
    right_sized = np.array([t is None for t in table.thresholds])
    right_sized[: len(alone)] |= alone
    return right_sized[table.threshold] & one_setting(bundle, table)


def _dyno(bundle: Bundle, table: PlanTable) -> Mask:
    """Split and precision, no exits (Almeida et al., DynO, ACM TECS 2022; arXiv 2104.09949).

    Departs: precisions are codec settings, measured for each cut point; the original packs to a bit width. Like the
    original, it keeps to the user's goal.
    """
    return without_exits(bundle, table)


def without_exits(bundle: Bundle, table: PlanTable) -> Mask:
    """(P,) whether no early exit may answer."""
    plain = [threshold is None or not bundle.needed(threshold) for threshold in table.thresholds]
    return np.array(plain)[table.threshold]


def one_setting(bundle: Bundle, table: PlanTable) -> Mask:
    """(P,), whether a plan has its cut point's default codec."""
    usual = np.full(table.last + 1, -1)
    for split in range(table.last):
        known = np.unique(table.setting[table.split == split])
        if not known.size:
            continue
        row = smallest_row(bundle, split)
        wanted = None if row is None else setting_of(row)
        usual[split] = next((k for k in known if table.settings[k] == wanted), _finest(bundle, table, split))
    return np.asarray(usual[table.split] == table.setting)


def _finest(bundle: Bundle, table: PlanTable, split: int) -> int:
    """The setting of most bytes at a split, for a split at which none is known to keep the accuracy."""
    here = np.flatnonzero(table.split == split)
    return int(table.setting[here[table.size[here].argmax()]])


def _users(sla: Sla, deadline_ms: float | None) -> Sla:
    """The user's goal."""
    return sla


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
    name: Policy(name, " ".join((plans.__doc__ or "").split()), plans, asks)
    for name, plans, asks in (
        ("spinn", _spinn, _users),
        ("device-only", _device_only, _users),
        ("server-only", _server_only, _users),
        ("neurosurgeon", _neurosurgeon, _fastest),
        ("edgent", _edgent, _in_time),
        ("dyno", _dyno, _users),
    )
}
"""By name, as `--policy` takes them."""
