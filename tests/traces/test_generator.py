"""Made-up networks: what a fit counts, what a model makes, and that the built-in ones are like what was measured."""

from __future__ import annotations

import json
import math
import random
import shlex
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from spinn_stream.errors import ConfigError
from spinn_stream.trace import Trace, format_csv
from spinn_traces.figures import longest_outage_s
from spinn_traces.generator import MODELS, Flow, Model, Outages, Settings, compare, derive, fit, generate, load_model
from spinn_traces.generator.comparison import autocorrelation
from spinn_traces.generator.generate import at_quantile
from spinn_traces.generator.model import QUANTILES
from spinn_traces.generator.steps import Steps, find_regimes, lasting_part, moves, outage_begins
from spinn_traces.readers import read_trace

from .test_trace_cli import spinn_trace

DATA = Path(__file__).parent.parent.parent / "traces" / "data"


def seconds(mbps: list[float]) -> Trace:
    """A downlink of one value a second."""
    return Trace(np.arange(len(mbps)), float(len(mbps)), down_mbps=mbps, measured=frozenset({"down_mbps"}))


def flow(*levels: float, outage: float = 0.0, lasting: float = 0.0) -> Flow:
    return Flow(tuple((level,) * QUANTILES for level in levels), (outage,) * QUANTILES, lasting, 0.0, "by hand")


SIMPLE = Model(
    "simple", "by hand", (), 1.0, ((0.9, 0.1), (0.2, 0.8)), flow(1, 4), flow(2, 8), flow(50, 50),
    Outages((0.0, 0.0), (0.0,) * QUANTILES),
)  # fmt: skip
"""From the first regime one step in ten leaves, from the second one in five: two thirds of the time in the first."""


# counting


def test_moves_are_counted_from_step_to_step() -> None:
    part = Steps(seconds([1.0] * 30 + [10.0] * 30), 1.0, 1.0)
    find_regimes([part], (0.5,))
    # 29 steps within each, one across, one from the end to the beginning; half a step in each counts as seen
    assert moves([part], 2) == (
        (pytest.approx(29.5 / 30.5), pytest.approx(1 / 30.5)),
        (pytest.approx(1 / 30.5), pytest.approx(29.5 / 30.5)),
    )


def test_outages_are_counted_by_the_regime_they_follow() -> None:
    part = Steps(seconds([1.0] * 20 + [0.0] * 5 + [1.0] * 20 + [0.0] * 2 + [1.0] * 13 + [10.0] * 60), 1.0, 1.0)
    find_regimes([part], (0.4,))
    assert part.outages_s == [5, 2]
    assert outage_begins([part], 2, 1) == (pytest.approx(2 / 53), 0.0)  # 53 seconds of 1 Mb/s, 2 outages behind them


def test_what_lasts_is_told_from_noise() -> None:
    # half of the variance goes on with 0.8 a step, half is new: correlations 0.5 x 0.8, 0.5 x 0.8^2, ...
    draws = random.Random(1)
    slow, series = 0.0, []
    for _ in range(40_000):
        slow = 0.8 * slow + 0.6 * draws.gauss()
        series.append(math.sqrt(0.5) * slow + math.sqrt(0.5) * draws.gauss())
    lasting, correlation = lasting_part([np.array(series)], 1.0)
    assert lasting == pytest.approx(0.5, abs=0.05) and correlation == pytest.approx(0.8, abs=0.03)
    assert lasting_part([np.array([draws.gauss() for _ in range(5000)])], 1.0) == (0.0, 0.0)


def test_autocorrelation_by_hand() -> None:
    # 1, -1, 1, -1: at lag 1 three products of -1 over the four squares, at lag 2 two of +1
    assert autocorrelation(np.array([1.0, -1.0, 1.0, -1.0]))[:4].tolist() == [1.0, -0.75, 0.5, -0.25]
    assert not autocorrelation(np.ones(100)).any()


# making


def test_quantiles_are_joined_by_straight_lines() -> None:
    quantiles = [float(i) for i in range(QUANTILES)]  # of 0, 1, 5, 10, ... 95, 99, 100 %
    parts = (0, 0.005, 0.03, 0.5, 0.51, 0.97, 0.995, 1)
    assert [at_quantile(quantiles, part) for part in parts] == pytest.approx([0, 0.5, 1.5, 11, 11.2, 20.5, 21.5, 22])


def test_a_chain_stays_in_each_regime_as_long_as_its_moves_say() -> None:
    made = generate(SIMPLE, seed=1, duration_s=30_000)
    down = made.values("down_mbps")
    assert set(down.tolist()) == {2.0, 8.0}
    assert (down == 2).mean() == pytest.approx(2 / 3, abs=0.02)
    left = (down[:-1] == 2) & (down[1:] == 8)
    assert left.sum() / (down == 2).sum() == pytest.approx(0.1, abs=0.01)
    assert (made.values("up_mbps") == down / 2).all()  # both directions are in the same regime
    assert made.assumed == ("up_mbps", "down_mbps", "rtt_ms", "loss")


def test_outages_begin_and_last_as_the_model_says() -> None:
    model = replace(SIMPLE, outages=Outages((0.02, 0.0), (5.0,) * QUANTILES))
    down = generate(model, seed=1, duration_s=50_000).values("down_mbps")
    out = down == 0
    runs = np.diff(np.flatnonzero(np.diff(np.concatenate(([0], out.astype(int), [0])))))[::2]
    assert np.median(runs) == 5
    # two thirds of the steps outside are poor ones, each followed by an outage with 0.02
    assert len(runs) / (~out).sum() == pytest.approx(0.02 * 2 / 3, rel=0.1)


def test_a_seed_gives_the_same_trace_again_and_another_one_another() -> None:
    model = load_model("lte-driving")
    assert generate(model, seed=5, duration_s=30) == generate(model, seed=5, duration_s=30)
    assert generate(model, seed=5, duration_s=30) != generate(model, seed=6, duration_s=30)
    assert generate(model, seed=5, duration_s=30.05).duration_s == 30.05


@pytest.mark.parametrize("duration_s", [0, -1, math.nan, math.inf, 1e9])
def test_durations_that_are_none_are_refused(duration_s: float) -> None:
    with pytest.raises(ConfigError, match="expected above 0 and at most"):
        generate(SIMPLE, seed=1, duration_s=duration_s)


# fitting


def test_a_model_fitted_to_its_own_trace_is_like_itself() -> None:
    made = generate(load_model("wifi-walking"), seed=3, duration_s=3000)
    found = fit([made], Settings(), name="again", made_by="here", sources=["made"])
    for direction in compare(found, [made]):
        said = direction.as_json()
        assert said["largest_difference"] < 0.1
        assert said["generated"]["outage_share"] == pytest.approx(said["measured"]["outage_share"], abs=0.05)
        off = direction.made_correlation.mean(axis=0) - direction.correlation
        assert np.abs(off[:20]).max() < 0.2
    assert (found.name, found.made_by, found.sources) == ("again", "here", ("made",))


def test_what_is_not_recorded_is_assumed_and_says_so() -> None:
    trace = seconds([1.0, 2.0, 3.0, 4.0] * 30)
    found = fit([trace], Settings(up_share=0.5, rtt_ms=70), name="x", made_by="", sources=[])
    assert found.up_mbps.source == "assumed: 0.5 times the downlink" and found.rtt_ms.source == "assumed: 70 ms"
    assert found.up_mbps.regimes[0] == pytest.approx([q / 2 for q in found.down_mbps.regimes[0]])
    with_rtt = fit([trace], Settings(rtt_from=Trace([0, 1], 2.0, rtt_ms=[10, 20], measured={"rtt_ms"})),
                   name="x", made_by="", sources=[])  # fmt: skip
    assert with_rtt.rtt_ms.source == "measured" and with_rtt.rtt_ms.regimes[0][0] == 10
    stretched = fit([trace], Settings(rtt_from=Trace([0, 1, 2], 3.0, rtt_ms=[10, 20, 60]), rtt_ms=100),
                    name="x", made_by="", sources=[])  # fmt: skip
    assert stretched.rtt_ms.regimes[0][:: QUANTILES // 2] == (50, 100, 300)  # 10, 20, 60 times 100 / 20
    assert stretched.rtt_ms.source.startswith("assumed: 100 ms")
    assert "assumed" in fit([trace], Settings(rtt_from=Trace([0], 2.0, rtt_ms=[10])),
                            name="x", made_by="", sources=[]).rtt_ms.source  # fmt: skip


@pytest.mark.parametrize(
    ("traces", "settings", "said"),
    [
        ([seconds([1.0] * 30)], Settings(), "a trace of 30 s with down_mbps, expected 60 s or more"),
        ([Trace([0], 100.0, rtt_ms=[1])], Settings(), "a trace of 100 s with no capacity"),
        ([seconds([0.0] * 90)], Settings(), "a trace that is one outage"),
        ([seconds([1.0] * 90), Trace([0], 90.0, up_mbps=[1])], Settings(), "record down_mbps and up_mbps"),
        ([seconds([1.0] * 90)], Settings(step_s=0.3), "a step is 0.3 s, expected a second or a whole part"),
        ([seconds([1.0] * 90)], Settings(step_s=2), "a step is 2 s"),
        ([seconds([1.0] * 90)], Settings(up_share=0), "the uplink's share is 0"),
        ([seconds([1.0] * 90)], Settings(rtt_from=seconds([1.0])), "the trace for round trips records none"),
    ],
)  # fmt: skip
def test_traces_that_no_model_fits_are_refused(traces: list[Trace], settings: Settings, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        fit(traces, settings, name="x", made_by="", sources=[])


def test_a_derived_model_has_the_levels_of_one_and_the_motion_of_the_other() -> None:
    levels, motion = load_model("5g-driving"), load_model("3g-train")
    made = derive(levels, motion, name="x", made_by="here")
    assert (made.moves, made.outages, made.step_s) == (motion.moves, motion.outages, motion.step_s)
    assert made.down_mbps.regimes == levels.down_mbps.regimes and made.rtt_ms.regimes == levels.rtt_ms.regimes
    assert made.sources == ("levels of 5g-driving", "motion of 3g-train")
    with pytest.raises(ConfigError, match="simple has 2 regimes and 3g-train 6"):
        derive(SIMPLE, motion, name="x", made_by="")


# the built-in ones


def test_there_is_a_model_for_each_network_and_motion() -> None:
    ways = ("walking", "driving", "train")
    assert set(MODELS) == {f"{net}-{way}" for net in ("3g", "lte", "5g", "wifi") for way in ways}


@pytest.mark.parametrize("name", MODELS)
def test_a_built_in_model_says_where_it_comes_from_and_is_written_as_it_is_read(name: str) -> None:
    model = load_model(name)
    assert model.name == name and model.made_by.startswith("spinn trace ") and model.sources
    assert Model.from_json(model.as_json(), name).as_json() == model.as_json()
    made = generate(model, seed=1, duration_s=120)
    assert 0.1 < made.mean("down_mbps") < 100


@pytest.mark.parametrize("name", [name for name in MODELS if " fit " in load_model(name).made_by])
def test_a_fitted_model_is_like_what_it_was_fitted_to(shared: Path, name: str) -> None:
    model = load_model(name)
    words = shlex.split(model.made_by.partition(" --")[0])[3:]
    if not all((shared / "traces" / word).is_file() for word in words):
        pytest.skip(f"the traces of {name} are not here")
    for found in compare(model, [read_trace(shared / "traces" / word).trace for word in words]):
        assert found.distance < 0.1
        off = found.made_correlation.mean(axis=0) - found.correlation
        assert math.sqrt(np.mean(off**2)) < 0.25
        share, made = (said["outage_share"] for said in (found.as_json()["measured"], found.as_json()["generated"]))
        assert made == pytest.approx(share, abs=0.03)


@pytest.mark.parametrize("path", sorted(DATA.glob("*.csv")), ids=lambda path: path.stem)
def test_a_trace_that_is_shipped_is_what_its_command_makes(path: Path) -> None:
    comment = next(line for line in path.read_text().splitlines() if line.startswith("# made up: "))
    words = shlex.split(comment.removeprefix("# made up: "))
    said = dict(zip(words[3::2], words[4::2], strict=True))
    made = generate(load_model(said["--model"]), seed=int(said["--seed"]), duration_s=float(said["--duration"]))
    assert read_trace(path).trace == made
    assert said["--out"] == path.name and path.name in (DATA / "README.md").read_text()


def test_a_handful_is_shipped_and_some_of_it_has_long_outages() -> None:
    traces = {path.stem: read_trace(path).trace for path in DATA.glob("*.csv")}
    assert len(traces) >= 5 and {name.split("-")[0] for name in traces} == {"3g", "lte", "5g", "wifi"}
    assert max(longest_outage_s(trace, "up_mbps") for trace in traces.values()) > 30


# models from files


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"moves": [[0.5, 0.2], [0.5, 0.5]]}, "expected 2 probabilities that sum to 1"),
        ({"moves": []}, "0 regimes, expected 1 to 16"),
        ({"step_s": 0}, "a step is 0.0 s, expected 0.01 to 10"),
        ({"step_s": None}, "not a model of a network"),
        ({"up_mbps": {}}, "no 'regimes'"),
        ({"up_mbps": 5}, "not a model of a network"),
        ({"outages": {"begin": [0.1], "seconds": [0.0] * QUANTILES}}, "expected 2 probabilities"),
        ({"outages": {"begin": [0.1, 2], "seconds": [0.0] * QUANTILES}}, "expected 2 probabilities"),
        ({"outages": {"begin": [0.1, 0.1], "seconds": [1.0]}}, "the length of outages has 1 quantiles, expected 23"),
    ],
)
def test_a_file_that_is_no_model_is_refused(tmp_path: Path, change: dict[str, object], said: str) -> None:
    path = tmp_path / "model.json"
    path.write_text(json.dumps(json.loads(SIMPLE.as_json()) | change))
    with pytest.raises(ConfigError, match=said):
        load_model(str(path))


def test_quantiles_and_correlations_out_of_place_are_refused() -> None:
    falling = replace(SIMPLE.up_mbps, outage=(1.0, *(0.0,) * (QUANTILES - 1)))
    for up, said in (
        (falling, "expected 23 that rise"),
        (replace(SIMPLE.up_mbps, outage=(-1.0,) * QUANTILES), "expected 23 that rise, from 0"),
        (replace(SIMPLE.up_mbps, correlation=1.0), "expected 0 to 1 and 0 to below 1"),
        (replace(SIMPLE.up_mbps, lasting=1.5), "expected 0 to 1 and 0 to below 1"),
        (flow(1, 2, 3), "up_mbps has 3 regimes, expected 2"),
    ):
        with pytest.raises(ValueError, match=said):
            replace(SIMPLE, up_mbps=up)


def test_names_that_are_no_model_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"the model is '6g', expected a file\.json or one of 3g-driving"):
        load_model("6g")
    with pytest.raises(ConfigError, match=r"cannot read the model /no/such\.json"):
        load_model("/no/such.json")
    (tmp_path / "x.json").write_text("nothing")
    with pytest.raises(ConfigError, match=r"x\.json is not a model of a network"):
        load_model(str(tmp_path / "x.json"))


# the commands


def test_generate_writes_what_the_reader_reads(tmp_path: Path) -> None:
    arguments = ("generate", "--model", "wifi-walking", "--seed", "3", "--duration", "60", "--out")
    for name in ("a.csv", "a.parquet"):
        done = spinn_trace(*arguments, tmp_path / name)
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
        assert read_trace(tmp_path / name).trace == generate(load_model("wifi-walking"), seed=3, duration_s=60)
    done = spinn_trace(*arguments, tmp_path / "a.txt")
    assert done.returncode == 1 and "expected a file .csv or .parquet" in done.stderr
    done = spinn_trace("generate", "--model", "x", "--out", tmp_path / "a.csv")
    assert done.returncode == 1 and "expected a file.json or one of" in done.stderr


def test_fit_writes_a_model_and_shows_how_it_fits(tmp_path: Path) -> None:
    made = generate(load_model("5g-driving"), seed=1, duration_s=150)
    (tmp_path / "real.csv").write_text("\n".join(format_csv(made)))
    model, picture = tmp_path / "mine.json", tmp_path / "mine.png"
    done = spinn_trace("fit", tmp_path / "real.csv", "--name", "mine", "--out", model, "--out", picture, "--json")
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    assert said["model"] == "mine" and [found["direction"] for found in said["fit"]] == ["up_mbps", "down_mbps"]
    assert {"mean_mbps", "correlation", "outage_share"} <= said["fit"][0]["generated"].keys()
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert load_model(str(model)).made_by.startswith("spinn trace fit ")

    shown = spinn_trace("fit", tmp_path / "real.csv", "--model", "5g-driving", "--out", picture)
    assert shown.returncode == 0 and "the distributions differ by at most" in shown.stdout
    assert spinn_trace("derive", model, "3g-train", "--name", "two", "--out", tmp_path / "two.json").returncode == 0
    assert load_model(str(tmp_path / "two.json")).name == "two"


@pytest.mark.parametrize("out", ["x.txt", "/no/such/x.json", "/no/such/x.png"])
def test_fit_says_where_it_cannot_write(tmp_path: Path, out: str) -> None:
    (tmp_path / "real.csv").write_text("\n".join(format_csv(seconds([1.0, 2.0] * 40))))
    done = spinn_trace("fit", tmp_path / "real.csv", "--out", out)
    assert done.returncode == 1 and len(done.stderr.splitlines()) == 1 and out in done.stderr
