"""Judges a world after a fault, the same way in every row, and writes the row down where a report is asked for."""

from __future__ import annotations

import json
import os
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from spinn_stream.bundle import Bundle
from spinn_stream.frame import Pixels
from spinn_stream.plan import Plan
from spinn_stream.runtime import Engine

from .world import Case, Fault, World, nothing, play

REPORT = "SPINN_FAULTS_REPORT"
"""Names the file that gets a row for each fault, a JSON object a line."""

MOST_NO_ANSWER, LEAST_OVER_DEVICE_ONLY = 0.01, 0.9
MOST_RECOVERY_S = 2.0


@dataclass(frozen=True)
class Row:
    """One line of the report. Times in seconds; None: it does not apply, or was not measured."""

    name: str
    frames: int
    missed: int
    duplicates: int
    wrong: int
    no_answer: int
    answers_over_device_only: float | None
    recovery_s: float | None
    rss_growth_mb: float | None

    def write(self) -> None:
        """To the report, if there is to be one."""
        if REPORT in os.environ:
            with Path(os.environ[REPORT]).open("a") as report:
                report.write(json.dumps(asdict(self)) + "\n")


class Matrix:
    """Plays faults on four photographs, whose labels have nothing in common."""

    def __init__(self, bundle: Bundle, engine: Engine, pictures: Sequence[Pixels]) -> None:
        self.bundle, self._engine, self._pictures = bundle, engine, pictures
        self._right: dict[int, set[str]] = defaultdict(set)
        self._alone: dict[tuple[float, float | None, bool | None, Fault], float] = {}  # labelled answers a frame, alone

    def plan(self, split: str) -> Plan:
        """With the bundle's own threshold, as the device alone has it."""
        return Plan(1, self.bundle.split_index(split), self.bundle.default_threshold)

    def play(self, case: Case, fault: Fault = nothing) -> World:
        return play(case, self.bundle, self._engine, self._pictures, fault)

    def judge(
        self, name: str, case: Case, fault: Fault = nothing, *, healthy_s: float | None = None,
        recovers_s: float = MOST_RECOVERY_S, answered_by: str | None = None, of_device: bool = False,
    ) -> World:  # fmt: skip
        """Play it; every frame has its final result in time, and no worse ones than the device alone would give.

        Args:
            healthy_s: when the fault is over; the server answers at most `recovers_s` later. answered_by: that server.
            of_device: the fault is the device's, so that the device alone has it, too.
        """
        world = self.play(case, fault)
        alone = self._answers_alone(case, fault if of_device else nothing)
        recovery_s = None if healthy_s is None else world.recovery_s(healthy_s, answered_by)
        wrong = sum(r.label is not None and r.label not in self._right[r.frame % 4] for _, r in world.finals)
        over = world.answers / (alone * case.frames)
        Row(
            name, world.taken, world.missed, world.duplicates, wrong, world.no_answer, round(over, 3),
            None if recovery_s is None else round(recovery_s, 3), None,
        ).write()  # fmt: skip
        assert (world.missed, world.duplicates, wrong) == (0, 0, 0)
        assert world.no_answer <= MOST_NO_ANSWER * world.taken, f"{world.no_answer} of {world.taken} without an answer"
        assert over >= LEAST_OVER_DEVICE_ONLY, f"{over:.2f} of the answers that the device gives alone"
        assert world.captured == world.taken + sum(world.dropped.values())
        if healthy_s is not None:
            assert recovery_s is not None and recovery_s <= recovers_s, f"the server answered after {recovery_s} s"
        return world

    def _answers_alone(self, case: Case, fault: Fault) -> float:
        """Labelled answers of the device alone under the same conditions, for each frame of the source."""
        key = case.device_slowdown, case.fps, case.repeat, fault
        if key not in self._alone:
            self._learn_labels()
            frames = 120 if fault is nothing else case.frames
            plan = Plan(1, self.bundle.last, self.bundle.default_threshold)
            world = self.play(replace(case, plan=plan, servers=(), links=(), frames=frames), fault)
            self._alone[key] = world.answers / frames
        return self._alone[key]

    @property
    def right(self) -> dict[int, set[str]]:
        """What each picture is called by each exit, on device and server, without any fault."""
        self._learn_labels()
        return self._right

    def _learn_labels(self) -> None:
        if self._right:
            return
        for split, threshold in (("block7", None), ("final", None), ("final", 0.0), ("block13", 0.0), ("input", None)):
            plan = Plan(1, self.bundle.split_index(split), threshold)
            for _, result in self.play(Case(plan, frames=40, fps=5.0, device_slowdown=1.0)).finals:
                self._right[result.frame % 4].add(str(result.label))
        assert not any(a & b for i, a in self._right.items() for j, b in self._right.items() if i < j)
