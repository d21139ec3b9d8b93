"""Cut points that no plan would ever choose, because another one is at least as good."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from .recording import Call


@dataclass(frozen=True)
class Candidate:
    """A place where one tensor crosses.

    macs: multiply-adds from the input to here. uncounted: operators up to here that could not be counted.
    order: of its node among all that were recorded.
    """

    name: str
    shape: tuple[int, ...]
    macs: int
    uncounted: int
    order: int

    @property
    def elements(self) -> int:
        return math.prod(self.shape)


def prune(candidates: Sequence[Candidate], calls: Sequence[Call], keep: Collection[str]) -> dict[str, str]:
    """Names of dominated cut points -> why, naming what dominates them.

    What a split costs is taken as linear: a x multiply-adds before it (device) + b x those behind it (server)
    + c x elements that cross, c not negative. Two rules, each true for every such cost:

    1. Free layers. A later cut point with no more elements and no multiply-adds on the way is never worse
       (activation, pooling, flattening). Neither is the input, for what costs nothing and does not shrink it.
    2. Expansions. Along the network the cost is linear in (multiply-adds, elements), so a cut point at or above
       the straight line between an earlier and a later one in that plane is never better than both. This is true
       everywhere, but whole stages of common networks lie above such lines, and exits are needed there. So it is
       applied only inside one module, between the maps that enter it and those that it returns, to maps with
       more channels than it returns and no fewer than enter: the inner activations of inverted residual blocks.
       The network itself, and modules that its input enters, are left alone: an element of a frame costs other
       bytes than one of an activation.

    Neither rule crosses an operator that could not be counted, with one exception: an expansion with more elements than
    both its ends is always pruned. The input, the last cut point and those in `keep` stay.
    """
    reasons: dict[str, str] = {}
    first, last = candidates[0], candidates[-1]
    for call in calls:
        for cut, entry, end in _expansions(candidates, call):
            reasons.setdefault(
                cut.name,
                f"an expansion inside {call.path}: {cut.elements} elements between {entry.name} with {entry.elements} "
                f"and {end.name} with {end.elements}, one of them as good at any price of work and bytes",
            )
    for i, cut in enumerate(candidates[1:-1], 1):
        if cut.name in reasons:
            continue
        if cut.macs == first.macs and not cut.uncounted and cut.elements >= first.elements:
            reasons[cut.name] = (
                f"nothing is computed between {first.name} and here, and it has no fewer elements "
                f"({cut.elements}, {first.name} has {first.elements})"
            )
            continue
        for later in reversed(candidates[i + 1 :]):
            free = later.macs == cut.macs and later.uncounted == cut.uncounted
            if free and later.elements <= cut.elements:
                reasons[cut.name] = (
                    f"{later.name} follows at no multiply-adds and has no more elements "
                    f"({later.elements}, here {cut.elements})"
                )
                break
    return {name: why for name, why in reasons.items() if name not in keep and name not in (first.name, last.name)}


def _expansions(candidates: Sequence[Candidate], call: Call) -> list[tuple[Candidate, Candidate, Candidate]]:
    """Cut points inside a call that lie above the line between its ends, and those two."""
    before = [c for c in candidates if c.order < call.start]
    inside = [c for c in candidates if call.start <= c.order <= call.end]
    if len(before) < 2 or not inside or inside[-1].order != call.end:
        return []
    entry, end = before[-1], inside[-1]
    counted = entry.uncounted == end.uncounted and end.macs > entry.macs
    found = []
    for cut in inside[:-1]:
        if not len(entry.shape) == len(cut.shape) == len(end.shape) == 3:
            continue
        if cut.macs == entry.macs and cut.uncounted == entry.uncounted:
            continue  # what enters, at no cost: the first rule has chosen between them
        share = (cut.macs - entry.macs) / (end.macs - entry.macs) if counted else 0.0
        line = entry.elements + (end.elements - entry.elements) * share
        above = cut.elements > max(entry.elements, end.elements) or (counted and cut.elements >= line)
        if above and cut.shape[0] >= entry.shape[0] and cut.shape[0] > end.shape[0]:
            found.append((cut, entry, end))
    return found
