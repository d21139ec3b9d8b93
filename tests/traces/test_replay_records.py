"""What a run was asked to be, and what came of it."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from spinn_stream.trace import Trace
from spinn_traces.replay.record import RunRecord, content_of, link_series
from spinn_traces.replay.run.conduct import with_truth
from spinn_traces.replay.store import RunStore

from ..replays import finals, run_record, run_spec, trace_use


def test_a_record_comes_back_from_json_as_it_was() -> None:
    odd = finals([5.0, 150.2], label=("tabby", None), where=("device", None), correct=(None, False))
    record = run_record(run_spec(), odd, dropped_by={"superseded": 3})
    assert RunRecord.from_json(json.loads(json.dumps(record.as_json()))) == record


def test_what_is_no_record_is_refused() -> None:
    good = run_record(run_spec(), finals([5.0, 6.0])).as_json()
    columns = {**good["finals"], "label": ["tabby"]}
    for broken in (None, [], {}, {**good, "version": 0}, {**good, "finals": columns}, {**good, "machine": {}}):
        with pytest.raises(ValueError):
            RunRecord.from_json(broken)


def test_two_specs_are_the_same_wherever_the_files_lie_and_differ_in_anything_else() -> None:
    spec = run_spec()
    moved = replace(spec, source="elsewhere", source_name="x", bundle="y", trace=trace_use("other.csv"))
    assert moved.key == spec.key
    others = [
        replace(spec, trace=trace_use(content="c1")), replace(spec, policy="server-only"), replace(spec, repeat=1),
        replace(spec, source_content="z"), replace(spec, fps=15.0), replace(spec, deadline_ms=100.0),
        replace(spec, duration_s=20.0), replace(spec, device_slowdown=8.0), replace(spec, seed=1),
        replace(spec, bundle_hash="h"), replace(spec, simulate=True), replace(spec, pinned=False),
    ]  # fmt: skip
    assert len({spec.key, *(other.key for other in others)}) == 1 + len(others)


def test_a_trace_s_content_is_what_it_plays() -> None:
    trace = Trace(np.array([0.0, 1.0]), 2.0, up_mbps=np.array([4.0, 0.0]))
    measured = replace(trace, measured=frozenset({"up_mbps"}))
    assert content_of(trace) == content_of(measured) == content_of(trace.filled())
    assert content_of(trace) != content_of(replace(trace, duration_s=3.0))


def test_the_link_is_told_in_windows_from_the_run_s_beginning_and_round_the_trace_s_end() -> None:
    """4 Mb/s for 1 s, 0 for 0.5 s: from 0.5 s on, seconds have 0.5 s, then 1 s, then 0.5 s at 4 Mb/s."""
    trace = Trace(np.array([0.0, 1.0]), 1.5, up_mbps=np.array([4.0, 0.0]), rtt_ms=np.array([10.0, 30.0]))
    link = link_series(trace, 0.5, 2.2)
    assert link.window_s == 1.0 and link.up_mbps == pytest.approx((2.0, 4.0, 2.0)) == link.down_mbps
    assert link.rtt_ms == (30.0, 10.0, 10.0)  # at 1.0; at 2.0, which is 0.5 of the next round; at 3.0, the third's 0.0


def test_answers_are_compared_with_the_truth_of_their_frame_round_after_round() -> None:
    answers = finals([5.0] * 4, frame=(0, 1, 3, 4), label=("a", "b", "a", None), correct=(None,) * 4)
    assert with_truth(run_record(run_spec(), answers), ("a", "x", "y")).finals.correct == (True, False, True, False)
    known = run_record(run_spec(), finals([5.0]))
    assert with_truth(known, ("nothing",)) is known


def test_done_runs_are_found_again_and_broken_files_are_told(tmp_path: Path) -> None:
    said: list[str] = []
    store, spec = RunStore(tmp_path / "runs", said.append), run_spec()
    assert store.load(spec) is None and not said
    record = run_record(spec, finals([5.0, 6.0]))
    store.save(record)
    assert store.load(spec) == record
    assert store.path(spec).name.startswith("drive--device-only--1--")
    assert store.load(replace(spec, repeat=1)) is None
    store.path(spec).write_text(store.path(spec).read_text()[:100])
    assert store.load(spec) is None and "is run again" in said[0]
    assert [p.name for p in (tmp_path / "runs").iterdir()] == [store.path(spec).name]  # nothing half-written
