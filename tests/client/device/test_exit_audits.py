"""Audits of early exits: what is learned of them, what that does to plans, and the contract while they go on."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import numpy as np
import pytest

from spinn_client.device.camera_answers import CameraAnswers
from spinn_client.device.device import Device
from spinn_client.device.exit_audits import MOST_OPEN, ExitAudits
from spinn_client.device.opening import DeviceConfig
from spinn_client.frames.feed import Feed, FeedConfig
from spinn_client.frames.ledger import Ledger
from spinn_client.frames.pipeline import Pipeline
from spinn_client.frames.results import Result
from spinn_client.steering.guide import Guide
from spinn_stream.bundle import Bundle
from spinn_stream.plan import Conditions, Plan, build_table, parse_sla, predict
from spinn_stream.plan.change.choice import choose
from spinn_stream.plan.predict.exits import CameraRates
from spinn_stream.profile import Profile, Timing
from spinn_stream.repeat.agreement import FRAMES
from spinn_stream.runtime import Answer, Engine

from ..frames.test_pipeline import Endless, Pixels

RIGHT, WRONG = Answer("block7", 3, 0.9, ((3, 0.9), (4, 0.1))), Answer("block7", 4, 0.9, ((4, 0.9), (3, 0.1)))
FINAL = Answer("final", 3, 0.8, ((3, 0.8), (4, 0.1)))  # a frame that gets label 4 loses 0.7


@pytest.fixture
def plan(bundle: Bundle) -> Plan:
    """One by which early exits answer some frames, and lose something by the tables."""
    best = max(row.accuracy for row in bundle.thresholds)
    row = next(r for r in bundle.thresholds if sum(r.share[:-1]) > 0.3 and r.accuracy < best)
    return Plan(1, bundle.last, row.threshold)


def shown(audits: ExitAudits, plan: Plan, frames: int, wrong_of_ten: int) -> ExitAudits:
    for frame in range(frames):
        audits.passed(frame, plan, WRONG if frame % 10 < wrong_of_ten else RIGHT)
        audits.answered(frame, FINAL)
    return audits


def by_tables(bundle: Bundle, plan: Plan) -> float:
    """What a frame that an early exit answers loses."""
    row = next(r for r in bundle.thresholds if r.threshold == plan.confidence_threshold)
    return (max(r.accuracy for r in bundle.thresholds) - row.accuracy) / sum(row.share[:-1])


def test_a_camera_on_which_exits_err_more_is_found_out(bundle: Bundle, plan: Plan) -> None:
    audits = shown(ExitAudits(bundle, 0.05), plan, 300, wrong_of_ten=5)
    true = 0.5 * 0.7 - by_tables(bundle, plan)
    assert (audits.audits, audits.disagreed) == (300, 150)
    assert true - 0.06 < audits.lost_beyond < true


def test_few_audits_prove_little_and_good_exits_nothing(bundle: Bundle, plan: Plan) -> None:
    few, many = (shown(ExitAudits(bundle, 0.05), plan, n, wrong_of_ten=5).lost_beyond for n in (10, 300))
    assert few < many
    assert shown(ExitAudits(bundle, 0.05), plan, 300, wrong_of_ten=0).lost_beyond == 0
    assert ExitAudits(bundle, 0.05).lost_beyond == 0


def test_another_scene_is_learned_anew(bundle: Bundle, plan: Plan) -> None:
    audits = shown(ExitAudits(bundle, 0.05), plan, 1000, wrong_of_ten=5)
    assert audits.lost_beyond > 0.2
    shown(audits, plan, 5 * FRAMES, wrong_of_ten=0)
    assert audits.lost_beyond == 0


def test_answers_that_never_come_are_forgotten_and_others_are_none_of_its(bundle: Bundle, plan: Plan) -> None:
    audits = ExitAudits(bundle, 0.05)
    for frame in range(10 * MOST_OPEN):
        audits.passed(frame, plan, WRONG)
    audits.answered(0, FINAL)
    audits.answered(10**9, FINAL)
    assert audits.audits == 0
    audits.answered(10 * MOST_OPEN - 1, FINAL)
    assert audits.audits == 1


def test_there_are_some_for_one_camera_under_our_own_policy(bundle: Bundle) -> None:
    def audited(config: DeviceConfig, *, one_camera: bool, ours: bool) -> bool:
        return CameraAnswers.of(bundle, config, one_camera=one_camera, ours=ours).audits is not None

    config = DeviceConfig(bundle)
    assert audited(config, one_camera=True, ours=True)
    assert audited(replace(config, repeat=False), one_camera=True, ours=True)
    assert not audited(config, one_camera=False, ours=True) and not audited(config, one_camera=True, ours=False)
    assert not audited(replace(config, audit_rate=0.0), one_camera=True, ours=True)


def test_the_threshold_follows(bundle: Bundle, profile: Profile) -> None:
    """Fewer frames are answered early, so that the agreement is kept all the same."""
    now, sla = Conditions(None, deadline_ms=1e4), parse_sla("accuracy_drop <= 2%; minimize latency_ms")
    row = profile.batches[0]
    slow, quick = (Timing(5.0, 5.0),) * len(row.segments), (Timing(0.1, 0.1),) * len(row.exits)
    profile = replace(profile, batches=(replace(row, segments=slow, exits=quick),))
    early, drops = [], []
    for beyond in (0.0, 0.01, 0.3):
        found = predict(build_table(bundle, profile, profile, rates=CameraRates(early_lost=beyond)), now)
        at = choose(found, sla)
        threshold = found.table.thresholds[found.table.threshold[at]]
        row = next((r for r in bundle.thresholds if r.threshold == threshold), None)
        early.append(0.0 if row is None else sum(row.share[:-1]))
        drops.append(found.at("accuracy_drop", at))
    assert early[0] > early[1] > early[2] and max(drops) <= 0.02


def test_a_plan_loses_that_much_for_each_frame_answered_early(bundle: Bundle, profile: Profile) -> None:
    plain, worse = (build_table(bundle, profile, profile, rates=CameraRates(early_lost=lost)) for lost in (0.0, 0.1))
    alone = plain.split == bundle.last
    shares = np.array([sum(row.share[:-1]) for row in bundle.thresholds])
    rows = plain.threshold[alone]
    early = np.where(rows < len(shares), shares[np.minimum(rows, len(shares) - 1)], 0.0)
    assert (plain.accuracy - worse.accuracy)[alone] == pytest.approx(0.1 * early, abs=1e-4)
    assert worse.reference == plain.reference


def played(
    bundle: Bundle, engine: Engine, profile: Profile, picture: Pixels, audits: ExitAudits | None
) -> list[Result]:
    """Ten frames that the first exit answers, with late results."""
    results: list[Result] = []
    plan, device = Plan(1, bundle.last, 0.0), Device(bundle, engine, profile)

    async def main() -> None:
        feed = Feed(Endless(picture), FeedConfig(unpaced=True))

        def emit(result: Result) -> None:
            results.append(result)
            if sum(r.kind == "final" for r in results) == 10:
                feed.stop()

        pipeline = Pipeline(
            bundle, device, feed, Ledger(bundle.labels, late=True), Guide(plan), None, deadline_ms=10_000, emit=emit,
            answers=CameraAnswers(audits=audits), keep_late=True,
        )  # fmt: skip
        await asyncio.to_thread(device.prepare, plan)
        await feed.open()
        await pipeline.run()
        device.close()

    asyncio.run(main())
    return results


def test_an_audited_frame_has_its_answer_at_the_exit_and_the_last_one_as_a_late_result(
    bundle: Bundle, engine: Engine, profile: Profile, photographs: list[Pixels]
) -> None:
    audits = ExitAudits(bundle, 1.0)
    plain, results = (played(bundle, engine, profile, photographs[0], a) for a in (None, audits))
    finals, late = ([r for r in results if r.kind == kind] for kind in ("final", "late"))
    assert [(r.frame, r.label, r.exit) for r in finals[:10]] == [(r.frame, r.label, r.exit) for r in plain[:10]]
    assert {r.exit for r in finals} == {bundle.exits[0].name} and {r.exit for r in late} == {bundle.exits[-1].name}
    assert len(late) == audits.audits == len(finals), "each audit ends before the next frame is taken"
