"""Which graphs a plan is run in: its own where they are built, until then those that stop at every exit."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Collection

from spinn_stream.bundle import Bundle
from spinn_stream.plan import Plan
from spinn_stream.runtime import Engine

from .clock import Graph

KEPT_PLANS = 8
"""Plans whose graphs are kept; each holds its own copy of the weights on its way."""

_Way = tuple[int, frozenset[int]]
"""Split, and the cut points of the exits that may answer: plans of the same ones run in the same graphs."""


class HeadPaths:
    """The graphs of a device's heads, and of what it finishes alone.

    A head is run in as few graphs as the exits allow that may answer under its plan. The graphs that stop at every exit
    are those of any plan's when time is short, so that most plans can be used before their own are built.

    `build` belongs to one thread; the others may be called on any meanwhile.

    Args:
        every_exit: evaluate exits that cannot answer under the plan, too, since their answers are wanted.
    """

    def __init__(self, bundle: Bundle, engine: Engine, *, every_exit: bool) -> None:
        self._bundle = bundle
        self._engine = engine
        self._every_exit = every_exit
        self._kept: OrderedDict[_Way, list[Graph]] = OrderedDict()  # the last built last
        self._built: set[_Way] = set()

    def evaluated(self, plan: Plan) -> Collection[int]:
        """Cut points of the exits at which its head is to stop now."""
        own = self._own(plan)
        return own if (plan.split, own) in self._built else self._bundle.exit_at.keys()

    def runs(self, plan: Plan) -> bool:
        """Whether the plan could be used now: no graph would have to be built for it."""
        return all(self._engine.ready(*piece, exit=exit) for piece, exit in self._with_every_exit(plan))

    def graphs(self, plan: Plan) -> list[Graph]:
        """Everything that may be run under a plan, none twice."""
        own, last = self._own(plan), self._bundle.last
        graphs = [(p, p[1] in own or p[1] == last) for p in self._bundle.pieces(0, plan.split, own)]
        return list(dict.fromkeys([*graphs, *self._with_every_exit(plan)]))

    def build(self, plan: Plan) -> None:
        """Build a plan's graphs, and free those of the one that was built first, where there are too many. Blocks.

        Call `built` when they may be used.

        Raises:
            EngineError: no engine can build them.
        """
        graphs, way = self.graphs(plan), (plan.split, self._own(plan))
        for (start, stop), exit in graphs:
            self._engine.prepare(start, stop, exit=exit)
        self._kept[way] = graphs
        self._kept.move_to_end(way)
        if len(self._kept) > KEPT_PLANS:
            oldest, unused = self._kept.popitem(last=False)
            self._built.discard(oldest)
            for graph in unused:
                if not any(graph in kept for kept in self._kept.values()):
                    self._engine.drop(*graph[0], exit=graph[1])

    def built(self, plan: Plan) -> None:
        """Run the plan in its own graphs from now on."""
        self._built.add((plan.split, self._own(plan)))

    def _own(self, plan: Plan) -> frozenset[int]:
        """Cut points of the exits that may answer under the plan, or are wanted."""
        every = self._every_exit or plan.confidence_threshold is None
        return frozenset(self._bundle.exit_at if every else self._bundle.needed(plan.confidence_threshold))

    def _with_every_exit(self, plan: Plan) -> list[Graph]:
        """Of the head, where time is short; of the tail, and of all of it, where the device is alone."""
        split, last = plan.split, self._bundle.last
        ways = ((0, split), (split, last), (0, last))
        return [
            (p, p[1] in self._bundle.exit_at) for start, stop in ways for p in self._bundle.pieces(start, stop)
        ]  # fmt: skip
