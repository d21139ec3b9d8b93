"""Hypothesis plays clients and an engine against the scheduler, and keeps a plain account beside it."""

from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from spinn_server.work.request import Request
from spinn_server.work.scheduler import Policy, Step

from .owners import Told
from .test_scheduler import LAST, PROFILE, make, request

EXITS = (4, LAST)
MOST, QUEUE = 4, 12


class Account(RuleBasedStateMachine):
    """Every request has one outcome; steps hold only who waits at their start; and nobody is served too late."""

    policy = Policy.SEGMENTS

    def __init__(self) -> None:
        super().__init__()
        self.scheduler = make(PROFILE, max_batch_size=MOST, max_queue=QUEUE, policy=self.policy)
        self.clients = [Told() for _ in range(3)]
        self.now = 0.0
        self.at: dict[Request, int] = {}  # open: where each has come to
        self.undecoded: list[Request] = []
        self.step: Step | None = None

    @rule(
        client=st.integers(0, 2), split=st.integers(0, LAST - 1), budget=st.floats(0, 0.3), early=st.booleans(),
        may_shorten=st.booleans(),
    )  # fmt: skip
    def submit(self, client: int, split: int, budget: float, early: bool, may_shorten: bool) -> None:
        needed = {4: 0.5} if early else {}
        one = request(split, self.now, self.now + budget, self.clients[client], needed=needed, may_shorten=may_shorten)
        refusal = self.scheduler.admit(one, self.now)
        if refusal is not None and refusal.request is not one:
            victim = refusal.request
            assert len(self.at) == QUEUE and (self.step is None or victim not in self.step.batch)
            assert sum(r.owner is victim.owner for r in self.at) > sum(r.owner is one.owner for r in self.at) + 1
            self._gone(victim)
        if refusal is None or refusal.request is not one:
            self.at[one] = split
            self.undecoded.append(one)
        assert len(self.at) <= QUEUE

    @precondition(lambda self: self.undecoded)
    @rule(data=st.data())
    def decode(self, data: st.DataObject) -> None:
        one = data.draw(st.sampled_from(self.undecoded))
        self.undecoded.remove(one)
        self.scheduler.decoded(one)

    @precondition(lambda self: self.at)
    @rule(data=st.data())
    def cancel(self, data: st.DataObject) -> None:
        one = data.draw(st.sampled_from(list(self.at)))
        assert self.scheduler.remove(one)
        self._gone(one)

    @rule(client=st.integers(0, 2))
    def disconnect(self, client: int) -> None:
        owner = self.clients[client]
        mine = [one for one in self.at if one.owner is owner]
        assert set(self.scheduler.of(owner)) == set(mine)
        for one in mine:
            assert self.scheduler.remove(one)
            self._gone(one)

    @rule(seconds=st.floats(0, 0.05))
    def pass_time(self, seconds: float) -> None:
        self.now += seconds

    @precondition(lambda self: self.step is None)
    @rule(sources=st.one_of(st.none(), st.integers(1, 3)))
    def begin(self, sources: int | None) -> None:
        waiting = [one for one in self.at if one not in self.undecoded]
        decision = self.scheduler.next(self.now, sources=sources)
        for one in decision.hopeless:
            self._gone(one)
        waiting = [one for one in waiting if one in self.at]
        self.step = decision.step
        if self.step is None:
            assert not waiting or (decision.wake_at is not None and decision.wake_at > self.now)
            return
        batch = self.step.batch
        assert 0 < len(batch) <= MOST and len(set(batch)) == len(batch)
        assert self.step.start < self.step.stop <= LAST
        assert all(self.at[one] == self.step.start and one in waiting and one.expires > self.now for one in batch)
        assert not any(self.step.start < cut < self.step.stop for one in batch for cut in one.needed)
        if self.policy is Policy.RUN_TO_END:
            assert len({one.split for one in batch}) == 1

    @precondition(lambda self: self.step is not None)
    @rule(data=st.data(), seconds=st.floats(0, 0.05))
    def end(self, data: st.DataObject, seconds: float) -> None:
        step, self.step = self.step, None
        assert step is not None
        self.now += seconds
        confidences = None
        if step.stop in EXITS:
            confidences = [data.draw(st.floats(0, 1)) for _ in step.batch]
        present = [one for one in step.batch if one in self.at]
        leaving = dict(self.scheduler.ran(step, confidences, self.now))
        for n, one in enumerate(step.batch):
            if one not in present:
                assert one not in leaving
                continue
            self.at[one] = step.stop
            sure = confidences is not None and (step.stop == LAST or confidences[n] >= one.needed.get(step.stop, 2.0))
            assert (leaving.get(one) is False) == sure
            assert leaving.get(one) is not True or (one.may_shorten and confidences is not None)
            if one in leaving:
                self._gone(one)

    @invariant()
    def accounts_agree(self) -> None:
        assert len(self.scheduler) == len(self.at) and set(self.scheduler.all()) == set(self.at)
        assert all(one.at == cut for one, cut in self.at.items() if self.step is None)
        running = 0 if self.step is None else sum(one in self.at for one in self.step.batch)
        assert self.scheduler.waiting + running == len(self.at)
        assert self.scheduler.delay_s(self.now) >= 0.0

    def teardown(self) -> None:
        """Nothing is left behind: everybody who is open leaves in the end."""
        if self.step is not None:
            self.scheduler.ran(
                self.step, None if self.step.stop not in EXITS else [0.0] * len(self.step.batch), self.now
            )
        for one in self.undecoded:
            self.scheduler.decoded(one)
        for _ in range(3 * QUEUE * LAST):
            self.now += 0.02
            step = self.scheduler.next(self.now).step
            if step is not None:
                exits = step.stop in EXITS
                self.scheduler.ran(step, [0.0] * len(step.batch) if exits else None, self.now)
        assert len(self.scheduler) == self.scheduler.waiting == 0

    def _gone(self, one: Request) -> None:
        del self.at[one]
        if one in self.undecoded:
            self.undecoded.remove(one)


class RunToEnd(Account):
    """The same, where nobody joins."""

    policy = Policy.RUN_TO_END


SETTINGS = settings(max_examples=60, stateful_step_count=40, deadline=None)
TestSegments, TestRunToEnd = Account.TestCase, RunToEnd.TestCase
TestSegments.settings = TestRunToEnd.settings = SETTINGS
