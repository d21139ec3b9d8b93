"""Which graphs a plan runs in: its own once they are built, until then those that stop at every exit."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Collection

from spinn_stream.bundle import Bundle
from spinn_stream.plan import Plan
from spinn_stream.runtime import Engine

from .clock import Graph

KEPT_PLANS = 8
"""Plans whose graphs are kept. Each graph holds its own copy of its weights."""

_Way = tuple[int, frozenset[int]]
"""Split, and cut points of the exits that may answer. Plans with the same key run in the same graphs."""


class HeadPaths:
    """The graphs of a device's heads, and of what it finishes alone.

    A head runs in as few graphs as its plan's exits allow. The graphs that stop at every exit are needed under every
    plan if time is short, so most plans can be used before their own graphs are built.

    One thread calls `build`; any thread may call the other methods meanwhile.

    Args:
        every_exit: evaluate all exits, those that cannot answer under the plan, too, since their answers are wanted.
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
        """All graphs that may run under a plan, each once."""
        own, last = self._own(plan), self._bundle.last
        graphs = [(p, p[1] in own or p[1] == last) for p in self._bundle.pieces(0, plan.split, own)]
        return list(dict.fromkeys([*graphs, *self._with_every_exit(plan)]))

    def build(self, plan: Plan) -> None:
        """Build a plan's graphs. If there are too many, free those of the plan that was built first. Blocks.

        Then call `built` to use them.

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
        """Graphs that stop at every exit: of the head, if time is short; of the tail and the whole, if the device is
        alone."""
        split, last = plan.split, self._bundle.last
        ways = ((0, split), (split, last), (0, last))
        return [
            (p, p[1] in self._bundle.exit_at) for start, stop in ways for p in self._bundle.pieces(start, stop)
        ]  # fmt: skip
