"""The repeat exit as a program sees it: a real device, and a real server in this process."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

import spinn_client as spinn
from spinn_stream.bundle import Bundle
from spinn_stream.profile import Profile
from spinn_stream.runtime import Engine

from .test_stream import ONNX, PATIENCE_MS, Clip, Pixels, serving

COUNT = 12


async def played(
    pictures: list[Pixels], device: spinn.DeviceConfig, *, server: str | None = None, split: str = "final",
    count: int = COUNT, **options: object,
) -> tuple[list[spinn.Result], spinn.State]:  # fmt: skip
    stream = spinn.Stream(
        Clip(pictures, count), server=server, deadline_ms=PATIENCE_MS, device=device,
        plan=spinn.FixedPlan(split, "none"), feed=spinn.FeedConfig(unpaced=True), **options,
    )  # type: ignore[arg-type]  # fmt: skip
    async with stream:
        results = [result async for result in stream]
        return results, stream.state


def finals(results: list[spinn.Result]) -> list[spinn.Result]:
    return [r for r in results if r.kind == "final"]


def test_frames_of_a_still_scene_repeat_the_first_answer(photographs: list[Pixels]) -> None:
    results, state = asyncio.run(played(photographs[:1], replace(ONNX, repeat=True, audit_rate=0.0)))
    assert [r.frame for r in results] == list(range(COUNT)), "one final result a frame, in order"
    assert [r.repeats for r in results] == [None] + [0] * (COUNT - 1)
    assert {r.label for r in results} == {results[0].label}
    assert {(r.exit, r.where, r.confidence) for r in results[1:]} == {("repeat", "device", results[0].confidence)}
    assert (state.device, state.repeated, state.audits) == (COUNT, COUNT - 1, 0)


def test_pictures_that_differ_are_all_run(photographs: list[Pixels]) -> None:
    results, state = asyncio.run(played(photographs, replace(ONNX, repeat=True), count=len(photographs)))
    assert len(finals(results)) == len(photographs) and state.repeated == 0


@pytest.mark.parametrize("repeat", [False, None])
def test_no_frame_is_repeated_if_that_is_not_asked_for(photographs: list[Pixels], repeat: bool | None) -> None:
    """None: it is on under our own policy, and this plan is fixed."""
    results, state = asyncio.run(played(photographs[:1], replace(ONNX, repeat=repeat)))
    assert len(finals(results)) == COUNT and state.repeated == 0


@pytest.mark.parametrize("one_camera", [True, False])
def test_pushed_pictures_are_repeated_if_they_are_said_to_be_of_one_camera(
    photographs: list[Pixels], one_camera: bool
) -> None:
    async def main() -> spinn.State:
        camera = spinn.Pushed(one_camera=one_camera)
        stream = spinn.Stream(camera, deadline_ms=PATIENCE_MS, device=replace(ONNX, audit_rate=0.0))
        async with stream:
            for _ in range(COUNT):
                await stream.ask(photographs[0])
            return stream.state

    state = asyncio.run(main())
    assert (state.device, state.repeated) == (COUNT, COUNT - 1 if one_camera else 0)


def test_frames_of_a_clip_are_repeated_by_default_under_our_policy(photographs: list[Pixels]) -> None:
    """A clip has a rate; a folder of pictures has none."""

    class Film(Clip):
        fps: float | None = 30.0  # type: ignore[assignment]

    async def repeated(source: spinn.Source) -> int:
        device = replace(ONNX, audit_rate=0.0)
        feed = spinn.FeedConfig(unpaced=True)
        async with spinn.Stream(source, deadline_ms=PATIENCE_MS, device=device, feed=feed) as stream:
            await stream.ended()
            return stream.state.repeated

    assert asyncio.run(repeated(Film(photographs[:1], COUNT))) == COUNT - 1
    assert asyncio.run(repeated(Clip(photographs[:1], COUNT))) == 0


@pytest.mark.parametrize("split", ["final", "block7"])
def test_audits_are_run_where_the_plan_says_and_give_no_second_final(
    bundle: Bundle, engine: Engine, profile: Profile, photographs: list[Pixels], split: str
) -> None:
    """Every repeat is audited: on the device, or half there and half on the server."""

    async def main() -> tuple[list[spinn.Result], spinn.State]:
        async with serving(bundle, engine, profile) as address:
            device = replace(ONNX, repeat=True, audit_rate=1.0)
            return await played(photographs[:1], device, server=address, split=split, late=True)

    results, state = asyncio.run(main())
    assert sorted(r.frame for r in finals(results)) == list(range(COUNT))
    first = min(r.frame for r in finals(results) if r.repeats is not None)
    late = [r for r in results if r.kind == "late"]
    assert {r.where for r in late} == {"device" if split == "final" else "server"}
    assert {r.frame for r in late} <= set(range(first, COUNT)) and len(late) >= COUNT // 2
    assert {r.label for r in late} == {finals(results)[0].label}
    assert all(r.repeats is None for r in late)
    assert state.late == 0 and state.disagreed == 0  # audits are counted at looks, of which a short run may have none
