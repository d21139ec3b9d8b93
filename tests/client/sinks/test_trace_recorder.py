"""What is written of a link, and that it is a trace."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from spinn_client.link.estimate import LinkEstimate, LinkReading
from spinn_client.sinks.trace import TraceRecorder, TraceRows
from spinn_stream.errors import ConfigError
from spinn_stream.trace import Trace, parse_csv


def lines_of(readings: list[LinkReading], *, end: bool = True) -> list[str]:
    rows = TraceRows(100.0)
    found = list(rows.head())
    for n, reading in enumerate(readings):
        found += rows.lines(reading, 101.0 + n)
    return [*found, *(rows.end(100.5 + len(readings)) if end else ())]


def parsed(lines: list[str]) -> Trace:
    return parse_csv(enumerate(lines, start=1), "recorded")[0]


def test_what_was_seen_is_a_trace() -> None:
    lines = lines_of([LinkReading(2.0, True, 40.0), LinkReading(None, False, 50.04), LinkReading(0.0, True, None)])
    assert lines[-5:] == ["time_s,up_mbps,rtt_ms", "0,2,40", "1,,50", "2,0,", "3.5,,"]
    assert parsed(lines) == Trace(
        [0, 1, 2], 3.5, up_mbps=[2, 2, 0], rtt_ms=[40, 50, 50], measured=frozenset({"up_mbps", "rtt_ms"})
    )


def test_a_run_that_is_killed_keeps_its_rows() -> None:
    lines = lines_of([LinkReading(2.0, True, 40.0), LinkReading(3.0, True, 41.0)], end=False)
    assert parsed(lines) == Trace([0, 1], 2.0, up_mbps=[2, 3], rtt_ms=[40, 41], measured={"up_mbps", "rtt_ms"})


def test_a_lower_bound_is_no_capacity() -> None:
    """On a link that was never full the capacity is not recorded; comments say what it is at least."""
    lines = lines_of([LinkReading(x, False, 40.0) for x in (1.0, 1.05, 2.0)])
    assert [line for line in lines if "at least" in line and " s: " in line] == [
        "# up_mbps at 0 s: at least 1; the link was not full",
        "# up_mbps at 2 s: at least 2; the link was not full",
    ]
    assert parsed(lines) == Trace([0, 1, 2], 3.5, rtt_ms=[40] * 3, measured={"rtt_ms"})


def test_a_lower_bound_above_what_would_hold_takes_its_place_and_says_so() -> None:
    lines = lines_of([LinkReading(x, x == 2.0, 40.0) for x in (2.0, 1.0, 3.0, 1.0)])
    assert "# up_mbps at 2 s is a lower bound" in lines
    assert parsed(lines).values("up_mbps").tolist() == [2, 2, 3, 3]


def test_seconds_in_which_nothing_was_seen_have_no_row() -> None:
    lines = lines_of([LinkReading(2.0, True, 40.0), LinkReading(None, False, None), LinkReading(None, False, 30.0)])
    assert parsed(lines).times_s.tolist() == [0, 2]
    assert "time_s" in lines_of([LinkReading(None, False, None)])[-1]  # not even an end


def test_the_file_grows_while_it_is_recorded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("spinn_client.sinks.trace.STEP_S", 0.02)
    path = tmp_path / "link.csv"

    async def main() -> str:
        recorder, estimate = TraceRecorder(path), LinkEstimate(0.0)
        recording = asyncio.create_task(recorder.run(estimate))
        while not path.exists() or path.read_text().count("\n") < 9:
            estimate.ponged(40.0, 0.0)
            await asyncio.sleep(0.005)
        while_running = path.read_text()
        recorder.stop()
        await recording
        recorder.close()
        return while_running

    before = asyncio.run(main())
    assert path.read_text().startswith(before)
    assert parsed(path.read_text().splitlines()).values("rtt_ms").max() == 40


def test_the_file_is_touched_when_recording_begins(tmp_path: Path) -> None:
    path = tmp_path / "link.csv"
    path.write_text("old\n")
    recorder = TraceRecorder(path)
    recorder.close()
    assert path.read_text() == "old\n"


@pytest.mark.parametrize("path", ["/dev/full", "/nowhere/link.csv"])
def test_a_file_that_cannot_be_written_is_told(path: str) -> None:
    async def main() -> None:
        await TraceRecorder(Path(path)).run(LinkEstimate(0.0))

    with pytest.raises(ConfigError, match=f"cannot write {path}: "):
        asyncio.run(main())
