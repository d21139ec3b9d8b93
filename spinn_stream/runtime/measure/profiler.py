"""Measures the profile of an engine on this machine, and keeps it."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from itertools import islice
from typing import Any

import numpy as np

from spinn_stream.bundle import Bundle
from spinn_stream.frame import crop, normalise
from spinn_stream.profile import BatchProfile, Profile, Timing
from spinn_stream.runtime.engines.base import Engine

from . import store
from .timing import Stop, StopRule, check, never, sample, summary

log = logging.getLogger(__name__)

QUICK = StopRule(warm_up=2, least=6, budget_s=1.0)
"""At the first start on a machine: a second for each batch size."""

THOROUGH = StopRule(warm_up=5, least=30, budget_s=15.0)
"""As `spinn profile` measures."""

CAMERA = (720, 1280, 3)


def measure_profile(
    bundle: Bundle, engine: Engine, *, batches: Sequence[int] = (1,), rule: StopRule = THOROUGH,
    progress: Callable[[float], object] = lambda share: None, stop: Stop = never,
) -> Profile:  # fmt: skip
    """Time every segment and exit for each batch size, all in turn, so that a change of speed meets all of them.

    A segment alone costs a call and a change of layout, which it does not inside a longer graph. Let t_i be the times
    of n segments and w that of the whole network. The price of a cut is c = (sum t_i - w) / (n - 1), and segment i
    takes t_i - c, scaled so that the whole graph takes w.

    Args:
        batches: rising batch sizes; the rule's budget is for each.
        progress: called with the share of the budget that is spent. stop: called between runs and between builds.

    Raises:
        EngineError: the engine cannot build or run a part. Interrupted: `stop` said so.
    """
    last = bundle.last
    early = [e.cut for e in bundle.exits[:-1]]
    pieces = [(0, last, False), *((i, i + 1, False) for i in range(last)), *((cut - 1, cut, True) for cut in early)]
    all_rule = replace(rule, budget_s=rule.budget_s * len(batches))
    try:
        for start, end, exit in pieces:
            check(stop)
            engine.prepare(start, end, exit=exit, batches=max(batches) > 1)
        rng = np.random.default_rng(0)
        functions = []
        for batch in batches:
            inputs = [rng.standard_normal((batch, *c.shape), np.float32) for c in bundle.cut_points[:-1]]
            functions += [partial(engine.run, start, end, inputs[start], exit=exit) for start, end, exit in pieces]
        samples = iter(sample(functions, all_rule, streak=3, stop=stop, progress=progress))
        rows = []
        for batch in batches:
            whole, *parts = islice(samples, len(pieces))
            rows.append(_row(batch, whole, parts[:last], parts[last:], early))
        preprocess = _preprocess(bundle, rule, stop)
    finally:
        for start, end, exit in pieces:
            engine.drop(start, end, exit=exit)
    progress(1.0)
    return Profile(engine.name, tuple(early), tuple(rows), preprocess)


def _row(
    batch: int, whole: list[float], segments: list[list[float]], exits: list[list[float]], early: list[int]
) -> BatchProfile:
    alone = [summary(times) for times in segments]
    total = summary(whole).median_ms
    call = max(0.0, (sum(t.median_ms for t in alone) - total) / max(1, len(alone) - 1))
    inner = [max(0.0, t.median_ms - call) for t in alone]
    scale = max(0.0, total - call) / (sum(inner) or 1.0)
    heads = []
    for cut, times in zip(early, exits, strict=True):
        without = np.asarray(segments[cut - 1])
        heads.append(summary((np.asarray(times) - without).tolist()))
    return BatchProfile(
        batch,
        tuple(Timing(ms * scale, max(ms, t.p95_ms - call) * scale) for ms, t in zip(inner, alone, strict=True)),
        tuple(heads),
        call,
    )


def _preprocess(bundle: Bundle, rule: StopRule, stop: Stop) -> Timing:
    """Crop, resize, normalise and layout of a camera's frame, in ms."""
    frame = np.random.default_rng(0).integers(0, 256, CAMERA, np.uint8)
    return summary(sample([lambda: normalise(crop(frame, bundle.input.size), bundle.input)], rule, stop=stop)[0])


def stored_profile(
    bundle: Bundle, engine: Engine, *, threads: int, batches: Sequence[int] = (1,), again: bool = False,
    rule: StopRule = QUICK, say: Callable[[str], object] = log.info,
    progress: Callable[[float], object] = lambda share: None, stop: Stop = never,
) -> Profile:  # fmt: skip
    """The kept profile for this bundle, machine, engine and number of threads; or a new one, which is then kept.

    One process of the user measures at a time; others wait, and use its result.

    Args:
        again: measure anew, even if there is a kept profile. say: gets a line before something slow.
        stop: called every few milliseconds; building a piece is not interrupted.

    Raises:
        EngineError: see `measure_profile`. Interrupted: `stop` said so.
    """
    key = {"bundle": bundle.hash, "engine": engine.name, "threads": threads, **store.machine()}
    kept = None if again else _kept(key, batches)
    if kept is not None:
        return kept
    with store.alone(say, stop):
        kept = None if again else _kept(key, batches)  # another process measured it meanwhile
        if kept is not None:
            return kept
        most_s = rule.budget_s * (len(batches) + 1)
        say(f"measuring {engine.name} on this machine, once: up to {most_s:.0f} s ...")
        profile = measure_profile(bundle, engine, batches=batches, rule=rule, progress=progress, stop=stop)
        store.save("profile", key, profile.as_json())
    return profile


def _kept(key: dict[str, Any], batches: Sequence[int]) -> Profile | None:
    """The kept profile, if it has these batch sizes."""
    found = store.load("profile", key)
    if found is None:
        return None
    try:
        profile = Profile.from_json(found)
    except ValueError as error:
        log.info("the kept profile is of no use: %s", error)
        return None
    return profile if {b.batch for b in profile.batches} >= set(batches) else None
